/* The functions of batches.py in C: what each takes, gives and promises is said there.
 *
 * Only the common case is here: good frames, and messages that are `bytes`. Anything else goes to the function of the
 * same name in batches.py with the same arguments, so that no error has two texts and no rule two homes.
 *
 * Stable ABI of 3.11 (setup.py defines Py_LIMITED_API), except on builds without a GIL, which have none yet. There is
 * no state, and no other thread can pull memory away: buffers are held, and messages read from a list of their own.
 */

#include <Python.h>

#include <stdint.h>
#include <string.h>

/* From this size on a message is handed on as it is. As in batches.py; a test compares them. */
#define PASSED_UNCOPIED (64 * 1024)
/* The most bytes that any header has. */
#define LONGEST_HEAD 9

/* Where in a buffer a message is. */
typedef struct {
    Py_ssize_t start, size, frame_end;
} Place;

/* How frames are made. All numbers are within 63 bits and all but `adjustment` and `largest` are at least 0, so that
 * comparing differences of them, as below, overflows nowhere. What a form does not use is 0. */
typedef struct Form {
    int (*find)(const struct Form *form, const unsigned char *data, Py_ssize_t rest, Place *place);
    Py_ssize_t size; /* of the length; 0: a varint */
    const char *order;
    long long offset, adjustment, skip, highest;
    long long largest; /* message */
    char *delimiter;
    Py_ssize_t width; /* of the delimiter; 0: a length */
} Form;

typedef struct {
    const char *data;
    Py_ssize_t size;
} Message;

static PyObject *in_python(const char *name, PyObject *args)
{
    PyObject *module = PyImport_ImportModule("pea2pea.codec.batches");
    PyObject *function = module == NULL ? NULL : PyObject_GetAttrString(module, name);
    PyObject *result = function == NULL ? NULL : PyObject_Call(function, args, NULL);
    Py_XDECREF(function);
    Py_XDECREF(module);
    return result;
}

/* -- the forms of frames ---------------------------------------------------------------------------------------- */

static int find_by_length(const Form *form, const unsigned char *data, Py_ssize_t rest, Place *place)
{
    if (form->offset > rest || form->size > rest - form->offset || form->skip > rest) {
        return 0;
    }
    const unsigned char *field = data + form->offset;
    uint64_t length = 0;
    for (Py_ssize_t i = 0; i < form->size; i++) {
        length = length << 8 | field[form->order[0] == 'l' ? form->size - 1 - i : i];
    }
    if (length > (uint64_t)form->highest ||
        (form->adjustment > 0 && length > (uint64_t)(INT64_MAX - form->adjustment))) {
        return 0;
    }
    int64_t size = (int64_t)length + form->adjustment;
    /* A frame without a byte would be found again for ever. */
    if (size < 0 || size > rest - form->skip || size + form->skip == 0) {
        return 0;
    }
    place->start = (Py_ssize_t)form->skip;
    place->size = (Py_ssize_t)size;
    place->frame_end = place->start + place->size;
    return 1;
}

static int find_by_varint(const Form *form, const unsigned char *data, Py_ssize_t rest, Place *place)
{
    uint64_t length = 0;
    Py_ssize_t used = 0;
    unsigned char byte = 128;
    while (byte > 127 && used < rest && used < LONGEST_HEAD) {
        byte = data[used];
        length |= (uint64_t)(byte & 127) << (7 * used++);
    }
    int padded = byte == 0 && used > 1;
    if (byte > 127 || padded || length > (uint64_t)form->largest || length > (uint64_t)(rest - used)) {
        return 0;
    }
    place->start = used;
    place->size = (Py_ssize_t)length;
    place->frame_end = place->start + place->size;
    return 1;
}

static int find_by_delimiter(const Form *form, const unsigned char *data, Py_ssize_t rest, Place *place)
{
    const unsigned char *at = data, *end = data + rest;
    while (form->width > 0 && end - at >= form->width &&
           (at = memchr(at, form->delimiter[0], (size_t)(end - at - form->width + 1))) != NULL) {
        if (memcmp(at, form->delimiter, (size_t)form->width) == 0) {
            place->start = 0;
            place->size = at - data;
            place->frame_end = place->size + form->width;
            return place->size <= form->largest;
        }
        at++;
    }
    return 0;
}

static int parse_lengths(PyObject *args, PyObject **subject, Form *form)
{
    PyObject *layout;
    form->find = find_by_length;
    return PyArg_ParseTuple(args, "OO!", subject, &PyTuple_Type, &layout) &&
           PyArg_ParseTuple(layout, "nsLLLLL", &form->size, &form->order, &form->offset, &form->adjustment,
                            &form->skip, &form->highest, &form->largest);
}

static int parse_varints(PyObject *args, PyObject **subject, Form *form)
{
    form->find = find_by_varint;
    return PyArg_ParseTuple(args, "OL", subject, &form->largest);
}

static int parse_delimited(PyObject *args, PyObject **subject, Form *form)
{
    PyObject *delimiter;
    form->find = find_by_delimiter;
    /* Not "y#": what that means to a stable build depends on the headers it was built with. */
    return PyArg_ParseTuple(args, "OSL", subject, &delimiter, &form->largest) &&
           PyBytes_AsStringAndSize(delimiter, &form->delimiter, &form->width) == 0;
}

static Py_ssize_t head_size(const Form *form, Py_ssize_t length)
{
    Py_ssize_t size = form->size > 0 ? form->size : 1;
    while (form->size == 0 && (length >>= 7) > 0) {
        size++;
    }
    return size;
}

static unsigned char *write_head(unsigned char *out, const Form *form, Py_ssize_t length)
{
    uint64_t value = (uint64_t)length - (uint64_t)form->adjustment;
    Py_ssize_t size = head_size(form, length);
    for (Py_ssize_t i = 0; i < size && form->size > 0; i++, value >>= 8) {
        out[form->order[0] == 'l' ? i : size - 1 - i] = (unsigned char)value;
    }
    for (Py_ssize_t i = 0; i < size && form->size == 0; i++, value >>= 7) {
        out[i] = (unsigned char)(i < size - 1 ? value | 128 : value);
    }
    return out + size;
}

/* -- frames out of a buffer ------------------------------------------------------------------------------------- */

static PyObject *split_all(const Form *form, const Py_buffer *view)
{
    Py_ssize_t position = 0;
    Place place;
    PyObject *messages = PyList_New(0);
    while (messages != NULL &&
           form->find(form, (unsigned char *)view->buf + position, view->len - position, &place)) {
        PyObject *message = PyBytes_FromStringAndSize((char *)view->buf + position + place.start, place.size);
        if (message == NULL || PyList_Append(messages, message) < 0) {
            Py_CLEAR(messages);
        }
        Py_XDECREF(message);
        position += place.frame_end;
    }
    return messages == NULL ? NULL : Py_BuildValue("Nn", messages, position);
}

static PyObject *split(const char *name, PyObject *args, PyObject *buffer, const Form *form)
{
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_ND) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_ValueError) && !PyErr_ExceptionMatches(PyExc_BufferError)) {
            return NULL;
        }
        PyErr_Clear(); /* a released view, or one with gaps */
        return in_python(name, args);
    }
    int plain = view.ndim == 1 && view.itemsize == 1;
    PyObject *result = plain ? split_all(form, &view) : NULL;
    PyBuffer_Release(&view);
    return plain ? result : in_python(name, args);
}

/* -- messages into buffers -------------------------------------------------------------------------------------- */

/* Return whether all messages are for C, with `measured` filled and `total` at least the bytes of all their frames. */
static int measure(const Form *form, PyObject *messages, Py_ssize_t count, Message *measured, Py_ssize_t *total)
{
    Py_ssize_t around = form->width + LONGEST_HEAD;
    *total = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        char *data;
        Py_ssize_t size;
        PyObject *message = PyList_GetItem(messages, i);
        if (!PyBytes_CheckExact(message) || PyBytes_AsStringAndSize(message, &data, &size) < 0 ||
            size < form->adjustment || size > form->largest || size > PY_SSIZE_T_MAX - around - *total) {
            return 0;
        }
        measured[i].data = data;
        measured[i].size = size;
        *total += size + around;
    }
    return 1;
}

/* Write the messages from `i` on up to a large one, which only gets its head. Return where that is, or `count`. */
static Py_ssize_t gather_some(const Form *form, const Message *messages, Py_ssize_t i, Py_ssize_t count, PyObject **buffer)
{
    Py_ssize_t size = 0, end = i;
    int large = 0;
    for (; end < count && !large; end++) {
        large = messages[end].size >= PASSED_UNCOPIED;
        size += head_size(form, messages[end].size) + (large ? 0 : messages[end].size);
    }
    *buffer = PyBytes_FromStringAndSize(NULL, size);
    unsigned char *out = *buffer == NULL ? NULL : (unsigned char *)PyBytes_AsString(*buffer);
    for (; out != NULL && i < end; i++) {
        out = write_head(out, form, messages[i].size);
        if (messages[i].size < PASSED_UNCOPIED) {
            memcpy(out, messages[i].data, (size_t)messages[i].size);
            out += messages[i].size;
        }
    }
    return large ? end - 1 : end;
}

static PyObject *gather(const Form *form, PyObject *messages, const Message *measured, Py_ssize_t count)
{
    PyObject *buffers = PyList_New(0);
    for (Py_ssize_t i = 0; buffers != NULL && i < count; i++) {
        PyObject *buffer;
        i = gather_some(form, measured, i, count, &buffer);
        if (buffer == NULL || PyList_Append(buffers, buffer) < 0 ||
            (i < count && PyList_Append(buffers, PyList_GetItem(messages, i)) < 0)) {
            Py_CLEAR(buffers);
        }
        Py_XDECREF(buffer);
    }
    return buffers;
}

/* Return the messages with the delimiter behind each; NULL where one would be cut, without an error. */
static PyObject *gather_delimited(const Form *form, const Message *messages, Py_ssize_t count, Py_ssize_t total)
{
    Place place;
    PyObject *buffer = PyBytes_FromStringAndSize(NULL, total - count * LONGEST_HEAD);
    unsigned char *out = buffer == NULL ? NULL : (unsigned char *)PyBytes_AsString(buffer);
    for (Py_ssize_t i = 0; buffer != NULL && i < count; i++) {
        Py_ssize_t size = messages[i].size;
        memcpy(out, messages[i].data, (size_t)size);
        memcpy(out + size, form->delimiter, (size_t)form->width);
        if (!form->find(form, out, size + form->width, &place) || place.size < size) {
            Py_CLEAR(buffer);
        }
        out += size + form->width;
    }
    return buffer == NULL ? NULL : Py_BuildValue("[N]", buffer);
}

static PyObject *join(const char *name, PyObject *args, PyObject *messages, const Form *form)
{
    PyObject *result = NULL, *own = PySequence_List(messages);
    Py_ssize_t total, count = own == NULL ? 0 : PyList_Size(own);
    if (count == 0) {
        return own;
    }
    Message *measured = PyMem_Calloc((size_t)count, sizeof(Message));
    if (measured == NULL) {
        PyErr_NoMemory();
    } else if (measure(form, own, count, measured, &total)) {
        result = form->width > 0 ? gather_delimited(form, measured, count, total) : gather(form, own, measured, count);
    }
    PyMem_Free(measured);
    Py_DECREF(own);
    return result != NULL || PyErr_Occurred() ? result : in_python(name, args);
}

/* -- the module ------------------------------------------------------------------------------------------------- */

#define FUNCTION(verb, kind)                                                                                           \
    static PyObject *verb##_##kind(PyObject *module, PyObject *args)                                                   \
    {                                                                                                                  \
        PyObject *subject;                                                                                             \
        Form form = {0};                                                                                               \
        return parse_##kind(args, &subject, &form) ? verb(#verb "_" #kind, args, subject, &form) : NULL;               \
    }

FUNCTION(split, lengths)
FUNCTION(split, varints)
FUNCTION(split, delimited)
FUNCTION(join, lengths)
FUNCTION(join, varints)
FUNCTION(join, delimited)

/* -- memory that becomes a message ------------------------------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    PyObject *content;
    int taken;
} Landing;

static PyObject *landing_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    Py_ssize_t size;
    Landing *self = NULL;
    if (PyArg_ParseTuple(args, "n", &size) && (self = (Landing *)PyType_GenericAlloc(type, 0)) != NULL) {
        self->content = PyBytes_FromStringAndSize(NULL, size);
    }
    if (self != NULL && self->content == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void landing_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(((Landing *)self)->content);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static int landing_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    PyObject *content = ((Landing *)self)->content;
    /* Who has the bytes may trust that they do not change. */
    int readonly = ((Landing *)self)->taken;
    return PyBuffer_FillInfo(view, self, PyBytes_AsString(content), PyBytes_Size(content), readonly, flags);
}

static Py_ssize_t landing_length(PyObject *self)
{
    return PyBytes_Size(((Landing *)self)->content);
}

/* Whoever still holds the memory, as a transport does while it hands it over, holds `self` and so the bytes. */
static PyObject *landing_take(PyObject *self, PyObject *unused)
{
    ((Landing *)self)->taken = 1;
    return Py_NewRef(((Landing *)self)->content);
}

static PyMethodDef landing_methods[] = {{"take", landing_take, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};

static PyType_Slot landing_slots[] = {
    {Py_tp_new, (void *)landing_new},
    {Py_tp_dealloc, (void *)landing_dealloc},
    {Py_bf_getbuffer, (void *)landing_getbuffer},
    {Py_sq_length, (void *)landing_length},
    {Py_tp_methods, landing_methods},
    {0, NULL},
};

static PyType_Spec landing_spec = {"pea2pea._speedups.Landing", sizeof(Landing), 0, Py_TPFLAGS_DEFAULT, landing_slots};

static int execute(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &landing_spec, NULL);
    int result = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return result;
}

static PyMethodDef methods[] = {
    {"split_lengths", split_lengths, METH_VARARGS, NULL},     {"join_lengths", join_lengths, METH_VARARGS, NULL},
    {"split_varints", split_varints, METH_VARARGS, NULL},     {"join_varints", join_varints, METH_VARARGS, NULL},
    {"split_delimited", split_delimited, METH_VARARGS, NULL}, {"join_delimited", join_delimited, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)execute},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "pea2pea._speedups", .m_methods = methods,
                                        .m_slots = slots};

PyMODINIT_FUNC PyInit__speedups(void)
{
    return PyModuleDef_Init(&definition);
}
