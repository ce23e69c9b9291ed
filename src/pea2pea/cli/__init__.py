"""The command ``pea2pea``: share a file, get one, see it spread through a demonstration network.

A package above the core, which it uses as anyone could: it imports names from ``pea2pea``, the
standard library, and (only where they are installed) ``rich`` and ``uvloop``. Its rooms, each
importing only those above it::

    errors   what goes wrong, and the one line that says so      pure
    tree     the SHA-256 tree over a file's chunks               pure
    link     pea2pea://HOST:PORT/ROOT                            pure
    wire     the messages between two nodes                      pure
    plan     which chunk to ask of whom, and who is too late     pure
    store    the file on disk: whole, or partial and resumable
    swarm    the node that serves and fetches
    show     progress bars, or plain lines
    jobs     share and get
    child    one node of a demonstration
    demo     many of them, each a process, and a table of what they do
    main     the command line

Who knows a root hash needs to trust nobody: not the peers, as each chunk is proven when it
arrives; not the disk, as all is read back before the file gets its name. Nothing here is secret:
whoever reaches a sharer gets the file, and whoever is on the way sees it.
"""
