# cython: language_level=3, boundscheck=False, wraparound=False
"""`appender`, compiled: encodes frames of `spool_record` directly into the mapped segment.

An append is done here completely or not at all. Unusual cases (no room, a new version, sampling, an
unknown type) are left to `append_slowly`. Both write the same bytes, which a test checks.
"""

cimport numpy as np
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from libc.time cimport time_t

from driftloop_serving.capture._crc32c cimport choose_crc, crc32c_by_table, update_crc
from driftloop_serving.capture._messagepack cimport (
    Out, put, put_array, put_byte, put_double, put_length, put_nil, put_number, put_text, take,
)

from driftloop_serving.capture.spool_record import PredictionBatch

cdef extern from "<sys/vfs.h>" nogil:
    struct statfs_t "statfs":
        long f_type
    int fstatfs(int, statfs_t *)

cdef extern from "<time.h>" nogil:
    struct timespec:
        time_t tv_sec
        long tv_nsec
    int CLOCK_REALTIME
    int clock_gettime(int, timespec *)

cdef extern from *:
    """
    #include <stdatomic.h>

    /* The header is written last: before it, a kill or a reader finds nothing; after it, all. */
    static void publish(unsigned char *frame, const unsigned char *header)
    {
        atomic_thread_fence(memory_order_release);
        memcpy(frame, header, 8);
    }
    """
    void publish(uint8_t *frame, const uint8_t *header)

cdef enum:  # the places of a `PredictionBatch`'s fields
    MODEL, VERSION, ARM, IDS, LATENCIES_S, COUNTS, SIGNATURE, INPUTS, OUTPUTS, ERROR
    FIRST_SEQUENCE, AT_US, LEFT_OUT, CLIENT_IDS, KEY_HASHES, TRACE_IDS

cdef enum:
    HEADER_BYTES = 8
    MOST_BATCHES = 16

COMPILED = True
np.import_array()
choose_crc()
if PredictionBatch._fields != (
    "model", "version", "arm", "ids", "latencies_s", "counts", "signature", "inputs", "outputs",
    "error", "first_sequence", "at_us", "left_out", "client_ids", "key_hashes",
    "trace_ids",
):
    raise ImportError("compiled for another PredictionBatch")


# -- a record ------------------------------------------------------------------------------------

cdef class Source:
    cdef public str key
    cdef public int served
    cdef public uint64_t sequence
    cdef object _encoder, signature
    cdef bytes beginning
    cdef tuple inputs, outputs

    def __init__(self, key, served):
        self.key, self.served = key, served

    @property
    def encoder(self):
        return self._encoder

    @encoder.setter
    def encoder(self, encoder):
        self._encoder, self.signature = encoder, encoder.signature
        self.beginning = encoder.beginning
        self.inputs, self.outputs = encoder.inputs, encoder.outputs


cdef struct Part:  # the record of one batch
    PyObject *source  # kept alive by `Appender._sources`
    uint8_t *frame
    uint64_t sequence  # number of its first request
    uint64_t rows


cdef int put_record(
    Out *out, tuple batch, Source source, uint64_t at_us, uint64_t *rows
) except -1:
    """Write a `_Predictions`, and its number of rows to `rows`."""
    cdef list ids = batch[IDS], latencies_s = batch[LATENCIES_S], counts = batch[COUNTS]
    cdef uint64_t count
    put_array(out, 12)
    put_text(out, batch[ARM])
    put_number(out, source.sequence)
    put_number(out, at_us)
    put_array(out, len(ids))
    for prediction_id in ids:
        put_text(out, prediction_id)
    put_array(out, len(latencies_s))
    for latency_s in latencies_s:
        put_double(out, latency_s)
    put_array(out, len(counts))
    for each in counts:
        count = each
        rows[0] += count
        put_number(out, count)
    put_tensors(out, source.inputs, batch[INPUTS])
    put_tensors(out, source.outputs, batch[OUTPUTS])
    error = batch[ERROR]
    if error is None:
        put_nil(out)
    else:
        put_text(out, error)
    put_byte(out, 0xC3 if batch[CLIENT_IDS] else 0xC2)
    put_key_hashes(out, batch[KEY_HASHES])
    return put_trace_ids(out, batch[TRACE_IDS])


cdef int put_key_hashes(Out *out, list hashes) except -1:
    cdef uint64_t number
    if hashes is None:
        return put_nil(out)
    put_array(out, len(hashes))
    for each in hashes:
        if each is None:
            put_nil(out)
        else:
            number = each
            put_number(out, number)
    return 0


cdef int put_trace_ids(Out *out, list trace_ids) except -1:
    if trace_ids is None:
        return put_nil(out)
    put_array(out, len(trace_ids))
    for each in trace_ids:
        if each is None:
            put_nil(out)
        else:
            put_text(out, each)
    return 0


cdef int put_tensors(Out *out, tuple columns, dict arrays) except -1:
    """Write the arrays, given by name, or nil for None."""
    cdef tuple column
    if arrays is None:
        return put_nil(out)
    put_array(out, len(columns))
    for column in columns:
        array = arrays[column[0]]
        if array is None:
            put_nil(out)
        else:
            put_tensor(out, array, column[1])
    return 0


cdef int put_tensor(Out *out, np.ndarray array, bint is_text) except -1:
    cdef int i
    cdef int ndim = np.PyArray_NDIM(array)
    cdef bint holds_text = np.PyArray_TYPE(array) == np.NPY_OBJECT
    if not np.PyArray_IS_C_CONTIGUOUS(array) or is_text != holds_text:
        raise TypeError
    put_array(out, 2)
    put_array(out, ndim)
    for i in range(ndim):
        put_number(out, np.PyArray_DIM(array, i))
    if is_text:
        return put_texts(out, <PyObject **>np.PyArray_DATA(array), np.PyArray_SIZE(array))
    put_length(out, 0xC4, np.PyArray_NBYTES(array))
    return put(out, np.PyArray_DATA(array), np.PyArray_NBYTES(array))


cdef int put_texts(Out *out, PyObject **texts, Py_ssize_t length) except -1:
    cdef Py_ssize_t i
    put_array(out, length)
    for i in range(length):
        if texts[i] is NULL:
            raise TypeError
        put_text(out, <object>texts[i])
    return 0


# -- an append -----------------------------------------------------------------------------------

cdef class Held:
    """The memory of an object, which is kept alive as long as this."""
    cdef Py_buffer view

    def __cinit__(self, owner):
        PyObject_GetBuffer(owner, &self.view, PyBUF_WRITABLE)

    def __dealloc__(self):
        PyBuffer_Release(&self.view)


cdef class Appender:
    cdef public dict _sources
    cdef public Py_ssize_t _segment, _segment_bytes, _size, _limit
    cdef object segment_map, counters
    cdef Held held_map, held_counters

    @property
    def _map(self):
        return self.segment_map

    @_map.setter
    def _map(self, segment_map):
        self.held_map = None if segment_map is None else Held(segment_map)
        self.segment_map = segment_map

    @property
    def _counters(self):
        return self.counters

    @_counters.setter
    def _counters(self, counters):
        self.held_counters = Held(counters)
        self.counters = counters

    def _let_go(self):
        self.held_map = self.held_counters = None

    def append(self, batches):
        return self.append_quickly(batches) or self.append_slowly(batches)

    cdef bint append_quickly(self, object batches):
        """Append; False if nothing was done."""
        if self.held_map is None or self.held_counters is None:
            return False
        if self._size >= self._segment_bytes:
            return False
        if self._size > self._limit or self._limit > self.held_map.view.len:
            return False
        try:
            self.put_batches(batches)
        except Exception:  # `append_slowly` raises it again
            return False
        return True

    cdef int put_batches(self, list batches) except -1:
        cdef uint8_t *segment = <uint8_t *>self.held_map.view.buf
        cdef uint64_t *counters = <uint64_t *>self.held_counters.view.buf
        cdef Out out
        cdef Part[MOST_BATCHES] parts
        cdef Part *part
        cdef Source source
        cdef tuple batch
        cdef uint8_t[HEADER_BYTES] first
        cdef uint8_t *end
        cdef timespec now
        cdef uint64_t at_us
        cdef int i, length = len(batches), done = 0
        if not 0 < length <= MOST_BATCHES:
            raise BufferError
        out.at, out.end = segment + self._size, segment + self._limit
        clock_gettime(CLOCK_REALTIME, &now)
        at_us = now.tv_sec * 1_000_000 + now.tv_nsec // 1000
        try:
            for each in batches:
                if type(each) is not PredictionBatch:
                    raise TypeError
                batch = <tuple>each
                source = self._sources[batch[MODEL], batch[VERSION]]
                if source.signature is not batch[SIGNATURE] or batch[LEFT_OUT]:
                    raise BufferError
                part = &parts[done]
                part.source, part.frame = <PyObject *>source, out.at
                part.sequence, part.rows = source.sequence, 0
                put(&out, <const char *>source.beginning, len(source.beginning))
                put_record(&out, batch, source, at_us, &part.rows)
                source.sequence += len(<list>batch[IDS])
                done += 1
            end = out.at
            memset(take(&out, HEADER_BYTES), 0, HEADER_BYTES)  # no frame follows
        except BaseException:
            for i in range(done - 1, -1, -1):
                (<Source>parts[i].source).sequence = parts[i].sequence
            raise
        self._size = end - segment
        for i in range(length - 1, 0, -1):
            self.make_header(parts[i].frame, end, parts[i].frame)
            end = parts[i].frame
        self.make_header(parts[0].frame, end, first)
        publish(parts[0].frame, first)
        for i in range(length):
            counters[(<Source>parts[i].source).served] += parts[i].rows
        return 0

    cdef void make_header(self, uint8_t *frame, uint8_t *end, uint8_t *header):
        """Compute the header of a frame that begins with zeros."""
        cdef uint32_t[2] fields
        fields[0] = <uint32_t>(end - frame - HEADER_BYTES)
        fields[1] = ~update_crc(~<uint32_t>self._segment, frame, end)
        memcpy(header, fields, HEADER_BYTES)


def keeps_room(int file):
    cdef statfs_t found
    return fstatfs(file, &found) == 0 and found.f_type in (0xEF53, 0x58465342, 0x01021994)


def checksums(const uint8_t[:] data, uint32_t value):
    """Return the crc32c of at least one byte, computed by the CPU instruction and by the table."""
    cdef const uint8_t *at = &data[0]
    cdef const uint8_t *end = at + data.shape[0]
    return ~update_crc(~value, at, end), <uint32_t>~crc32c_by_table(~value, at, end)
