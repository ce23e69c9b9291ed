"""The command ``pea2pea``: share a file, get one, see one spread through nodes on this machine.

It parses arguments and shows what happens; the work is done by :mod:`pea2pea.share`. Its modules, each
importing only those above it::

    show    progress bars, or plain lines
    demo    the demonstration, as a table
    main    the command line
"""
