# cython: language_level=3
"""Writes MessagePack, with the same bytes as msgspec, into memory of a fixed size.

Raises BufferError if the memory is full.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy


cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL


cdef struct Out:
    uint8_t *at
    uint8_t *end


cdef inline uint8_t *take(Out *out, size_t size) except NULL:
    if <size_t>(out.end - out.at) < size:
        raise BufferError
    out.at += size
    return out.at - size


cdef inline int put(Out *out, const void *data, size_t size) except -1:
    memcpy(take(out, size), data, size)
    return 0


cdef inline int put_byte(Out *out, uint8_t byte) except -1:
    take(out, 1)[0] = byte
    return 0


cdef inline int put_tagged(Out *out, uint8_t tag, uint64_t number, int size) except -1:
    """The byte of a type, and a number, big-endian in `size` bytes."""
    cdef uint8_t *place = take(out, 1 + size)
    place[0] = tag
    while size:
        place[size] = <uint8_t>number
        number >>= 8
        size -= 1
    return 0


cdef inline int put_length(Out *out, uint8_t tag, uint64_t length) except -1:
    """`tag`: of the form with one byte of length; those with two and four follow it."""
    if length < 1 << 8:
        return put_tagged(out, tag, length, 1)
    if length < 1 << 16:
        return put_tagged(out, tag + 1, length, 2)
    return put_tagged(out, tag + 2, length, 4)


cdef inline int put_number(Out *out, uint64_t number) except -1:
    if number < 128:
        return put_byte(out, <uint8_t>number)
    if number >> 32 == 0:
        return put_length(out, 0xCC, number)
    return put_tagged(out, 0xCF, number, 8)


cdef inline int put_array(Out *out, size_t length) except -1:
    if length < 16:
        return put_byte(out, 0x90 | <uint8_t>length)
    if length < 1 << 16:
        return put_tagged(out, 0xDC, length, 2)
    return put_tagged(out, 0xDD, length, 4)


cdef inline int put_nil(Out *out) except -1:
    return put_byte(out, 0xC0)


cdef inline int put_double(Out *out, double number) except -1:
    cdef uint64_t bits
    memcpy(&bits, &number, 8)
    return put_tagged(out, 0xCB, bits, 8)


cdef inline int put_text(Out *out, object text) except -1:
    cdef Py_ssize_t size
    cdef const char *data = PyUnicode_AsUTF8AndSize(text, &size)
    if size < 32:
        put_byte(out, 0xA0 | <uint8_t>size)
    else:
        put_length(out, 0xD9, size)
    return put(out, data, size)
