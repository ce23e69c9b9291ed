/* The functions of batches.py in C: what each takes, gives and promises is said there.
 *
 * Only the common case is here. Whatever else there is, messages that cannot be sent among it, goes to the function of
 * the same name in batches.py with the same arguments, so that no error has two texts and no rule two homes.
 *
 * Stable ABI of 3.11 (setup.py defines Py_LIMITED_API), except on builds without a GIL, which have none yet. There is
 * no state, and no other thread can pull memory away: buffers are held, messages are read from a list of their own, and
 * of them only `bytes` in place.
 */

#include <Python.h>

#include <stdint.h>
#include <string.h>

/* From this size on a message is handed on as it is. As in batches.py; a test compares them. */
#define PASSED_UNCOPIED (64 * 1024)
/* The most bytes that any header has. */
#define LONGEST_HEAD 9

/* How frames are made. All numbers are within 63 bits and all but `adjustment` and `largest` are at least 0, so that
 * comparing differences of them, as below, overflows nowhere. */
typedef struct {
    enum { LENGTHS, VARINTS, DELIMITED } kind;
    Py_ssize_t size; /* of the length */
    const char *order;
    long long offset, adjustment, skip, highest;
    long long largest; /* message */
    char *delimiter;
    Py_ssize_t width; /* of the delimiter */
} Form;

/* Where in a buffer a message is. */
typedef struct {
    Py_ssize_t start, size, frame_end;
} Place;

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

/* Whether the error that is set is one that the function in Python deals with; then it is set no more. */
static int left_to_python(void)
{
    int left = PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_ValueError) ||
               PyErr_ExceptionMatches(PyExc_BufferError);
    if (left) {
        PyErr_Clear();
    }
    return left;
}

/* -- the forms of frames ---------------------------------------------------------------------------------------- */

static int parse_lengths(PyObject *args, PyObject **subject, Form *form)
{
    PyObject *layout;
    form->kind = LENGTHS;
    return PyArg_ParseTuple(args, "OO!", subject, &PyTuple_Type, &layout) &&
           PyArg_ParseTuple(layout, "nsLLLLL", &form->size, &form->order, &form->offset, &form->adjustment,
                            &form->skip, &form->highest, &form->largest);
}

static int parse_varints(PyObject *args, PyObject **subject, Form *form)
{
    form->kind = VARINTS;
    return PyArg_ParseTuple(args, "OL", subject, &form->largest);
}

static int parse_delimited(PyObject *args, PyObject **subject, Form *form)
{
    PyObject *delimiter;
    form->kind = DELIMITED;
    /* Not "y#": what that means to a stable build depends on the headers it was built with. */
    return PyArg_ParseTuple(args, "OSL", subject, &delimiter, &form->largest) &&
           PyBytes_AsStringAndSize(delimiter, &form->delimiter, &form->width) == 0;
}

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

static int find(const Form *form, const unsigned char *data, Py_ssize_t rest, Place *place)
{
    return form->kind == LENGTHS   ? find_by_length(form, data, rest, place)
           : form->kind == VARINTS ? find_by_varint(form, data, rest, place)
                                   : find_by_delimiter(form, data, rest, place);
}

static Py_ssize_t head_size(const Form *form, Py_ssize_t length)
{
    if (form->kind == LENGTHS) {
        return form->size;
    }
    Py_ssize_t size = 1;
    while (length >>= 7) {
        size++;
    }
    return size;
}

static unsigned char *write_head(unsigned char *out, const Form *form, Py_ssize_t length)
{
    uint64_t value = (uint64_t)length;
    if (form->kind == LENGTHS) {
        value -= (uint64_t)form->adjustment;
        for (Py_ssize_t i = 0; i < form->size; i++, value >>= 8) {
            out[form->order[0] == 'l' ? i : form->size - 1 - i] = (unsigned char)value;
        }
        return out + form->size;
    }
    for (; value > 127; value >>= 7) {
        *out++ = (unsigned char)(value | 128);
    }
    *out++ = (unsigned char)value;
    return out;
}

/* -- frames out of a buffer ------------------------------------------------------------------------------------- */

static PyObject *split_all(const Form *form, const Py_buffer *view)
{
    Py_ssize_t position = 0;
    Place place;
    PyObject *messages = PyList_New(0);
    while (messages != NULL &&
           find(form, (unsigned char *)view->buf + position, view->len - position, &place)) {
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
        return left_to_python() ? in_python(name, args) : NULL;
    }
    int plain = view.ndim == 1 && view.itemsize == 1;
    PyObject *result = plain ? split_all(form, &view) : NULL;
    PyBuffer_Release(&view);
    return plain ? result : in_python(name, args);
}

/* -- messages into buffers -------------------------------------------------------------------------------------- */

/* Return a small message as `bytes`; NULL where it is large, without an error, or cannot be read, with one. */
static PyObject *as_bytes(PyObject *message)
{
    Py_buffer view;
    PyObject *result = NULL;
    if (PyObject_GetBuffer(message, &view, PyBUF_FULL_RO) < 0) {
        return NULL;
    }
    if (view.len < PASSED_UNCOPIED && (result = PyBytes_FromStringAndSize(NULL, view.len)) != NULL &&
        PyBuffer_ToContiguous(PyBytes_AsString(result), &view, view.len, 'C') < 0) {
        Py_CLEAR(result);
    }
    PyBuffer_Release(&view);
    return result;
}

/* Put `bytes` in the place of message `i` if it is none. Return it, borrowed; NULL as above. */
static PyObject *flattened(PyObject *messages, Py_ssize_t i)
{
    PyObject *message = PyList_GetItem(messages, i);
    if (message == NULL || PyBytes_CheckExact(message)) {
        return message;
    }
    message = as_bytes(message);
    return message == NULL || PyList_SetItem(messages, i, message) < 0 ? NULL : message;
}

/* Return whether all messages are for C, with `measured` filled and `total` at least the bytes of all their frames. */
static int measure(const Form *form, PyObject *messages, Py_ssize_t count, Message *measured, Py_ssize_t *total)
{
    Py_ssize_t around = form->width + LONGEST_HEAD;
    *total = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        char *data;
        PyObject *message = flattened(messages, i);
        if (message == NULL || PyBytes_AsStringAndSize(message, &data, &measured[i].size) < 0) {
            return 0;
        }
        measured[i].data = data;
        Py_ssize_t size = measured[i].size;
        if (size < form->adjustment || size > form->largest || size > PY_SSIZE_T_MAX - around - *total) {
            return 0;
        }
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
        if (!find(form, out, size + form->width, &place) || place.size < size) {
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
        result = form->kind == DELIMITED ? gather_delimited(form, measured, count, total)
                                         : gather(form, own, measured, count);
    }
    PyMem_Free(measured);
    Py_DECREF(own);
    return result != NULL || (PyErr_Occurred() && !left_to_python()) ? result : in_python(name, args);
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

static PyMethodDef methods[] = {
    {"split_lengths", split_lengths, METH_VARARGS, NULL},     {"join_lengths", join_lengths, METH_VARARGS, NULL},
    {"split_varints", split_varints, METH_VARARGS, NULL},     {"join_varints", join_varints, METH_VARARGS, NULL},
    {"split_delimited", split_delimited, METH_VARARGS, NULL}, {"join_delimited", join_delimited, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
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
