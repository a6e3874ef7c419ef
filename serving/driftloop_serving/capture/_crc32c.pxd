# cython: language_level=3
"""The checksum of frames (crc32c), by the CPU's instruction for it if there is one.

Call `choose_crc` once before `update_crc`.
"""

from libc.stdint cimport uint8_t, uint32_t

cdef extern from *:
    """
    #include <string.h>

    static unsigned int crc_table[256];

    static unsigned int crc32c_by_table(
        unsigned int crc, const unsigned char *at, const unsigned char *end)
    {
        while (at < end)
            crc = crc_table[(crc ^ *at++) & 0xff] ^ crc >> 8;
        return crc;
    }

    #ifdef __x86_64__
    __attribute__((target("sse4.2")))
    static unsigned int crc32c_by_cpu(
        unsigned int crc, const unsigned char *at, const unsigned char *end)
    {
        unsigned long long wide = crc, eight;
        for (; end - at >= 8; at += 8) {
            memcpy(&eight, at, 8);
            wide = __builtin_ia32_crc32di(wide, eight);
        }
        crc = (unsigned int)wide;
        while (at < end)
            crc = __builtin_ia32_crc32qi(crc, *at++);
        return crc;
    }
    #endif

    static unsigned int (*update_crc)(unsigned int, const unsigned char *, const unsigned char *);

    static void choose_crc(void)
    {
        for (unsigned int i = 0; i < 256; i++) {
            crc_table[i] = i;
            for (int bit = 0; bit < 8; bit++)
                crc_table[i] = crc_table[i] >> 1 ^ (crc_table[i] & 1 ? 0x82f63b78 : 0);
        }
        update_crc = crc32c_by_table;
    #ifdef __x86_64__
        if (__builtin_cpu_supports("sse4.2"))
            update_crc = crc32c_by_cpu;
    #endif
    }
    """
    void choose_crc()
    uint32_t update_crc(uint32_t crc, const uint8_t *at, const uint8_t *end)
    uint32_t crc32c_by_table(uint32_t crc, const uint8_t *at, const uint8_t *end)
