/* SPDX-License-Identifier: Apache-2.0 */
/* Tar archives and compressed streams: what is written reads back, by this reader and by tar(1);
 * what is hostile is refused, whatever pieces it comes in. */
#include "tests/support/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "lib/base/mem.h"
#include "lib/codec/inflate.h"
#include "lib/codec/tar.h"
#include "lib/sys/file.h"

/* What a reader saw, as text: "path size sum\n", "path/\n". */
struct seen {
    struct buf text;
    unsigned sum;
    struct tar_entry now;
};

static int on_begin(void *ctx, const struct tar_entry *e, struct err *err)
{
    struct seen *s = ctx;
    (void)err;
    s->now = *e;
    s->sum = 0;
    return 0;
}

static int on_data(void *ctx, const void *p, size_t n, struct err *err)
{
    struct seen *s = ctx;
    (void)err;
    for (size_t i = 0; i < n; i++)
        s->sum = s->sum * 31 + ((const unsigned char *)p)[i];
    return 0;
}

static int on_end(void *ctx, struct err *err)
{
    struct seen *s = ctx;
    (void)err;
    if (s->now.is_dir)
        buf_printf(&s->text, "%s/\n", s->now.path);
    else
        buf_printf(&s->text, "%s %llu %u\n", s->now.path, (unsigned long long)s->now.size, s->sum);
    return 0;
}

/* Reads it in pieces of this size. */
static int read_pieces(const void *p, size_t n, size_t piece, struct seen *s, struct err *err)
{
    const struct tar_sink sink = {s, on_begin, on_data, on_end};
    const struct tar_limits limits = {1 << 20, 100};
    struct tar_reader *r = tar_reader_new(&sink, &limits);
    int rc = 0;
    buf_init(&s->text, 1 << 20);
    for (size_t at = 0; rc == 0 && at < n; at += piece)
        rc = tar_reader_feed(r, (const char *)p + at, MIN_OF(piece, n - at), err);
    if (rc == 0)
        rc = tar_reader_finish(r, err);
    tar_reader_free(r);
    return rc;
}

static void put(struct buf *out, const char *path, const char *data)
{
    struct err err = ERR_INIT;
    if (tar_put_file(out, path, strlen(data), &err) < 0)
        fail_msg("%s", err.msg);
    buf_append_str(out, data);
    tar_put_padding(out, strlen(data));
}

static void long_name(char *out, size_t n, size_t part)
{
    for (size_t i = 0; i < n; i++)
        out[i] = part && i % part == part - 1 ? '/' : (char)('a' + i % 26);
    out[n - 1] = 'z';
    out[n] = '\0';
}

static void test_round(void **state)
{
    (void)state;
    char names[5][TAR_PATH_BYTES + 1];
    struct buf out;
    struct seen one, other;
    struct err err = ERR_INIT;
    static const size_t lengths[] = {100, 101, 200, 300, 1024};
    buf_init(&out, 1 << 20);
    assert_int_equal(tar_put_dir(&out, "blobs", &err), 0);
    put(&out, "blobs/empty", "");
    put(&out, "blobs/a", "hello");
    for (size_t i = 0; i < 5; i++) {
        long_name(names[i], lengths[i], i == 1 ? 0 : 50);
        put(&out, names[i], names[i]);
    }
    put(&out, "last", "x");
    tar_put_end(&out);
    assert_int_equal(out.len % TAR_BLOCK, 0);
    assert_int_equal(read_pieces(out.data, out.len, out.len, &one, &err), 0);
    for (size_t piece = 1; piece < 1100; piece += piece < 10 ? 1 : 509) {
        assert_int_equal(read_pieces(out.data, out.len, piece, &other, &err), 0);
        assert_string_equal(buf_str(&one.text), buf_str(&other.text));
        buf_release(&other.text);
    }
    assert_true(strncmp(buf_str(&one.text), "blobs/\nblobs/empty 0 0\nblobs/a 5 ", 33) == 0);
    for (size_t i = 0; i < 5; i++)
        assert_non_null(strstr(buf_str(&one.text), names[i]));
    /* tar(1) lists the same paths */
    FILE *f = fopen("/tmp/berth-test.tar", "w");
    assert_non_null(f);
    fwrite(out.data, 1, out.len, f);
    fclose(f);
    f = popen("tar tf /tmp/berth-test.tar", "r");
    char line[2048];
    const char *at = buf_str(&one.text);
    while (fgets(line, sizeof(line), f)) {
        size_t n = strcspn(line, "\n");
        assert_memory_equal(line, at, n);
        at = strchr(at, '\n') + 1;
    }
    assert_int_equal(pclose(f), 0);
    assert_int_equal(*at, '\0');
    unlink("/tmp/berth-test.tar");
    buf_release(&one.text);
    buf_release(&out);
}

/* Sizes beyond eleven octal digits, whose data nobody sends here. */
static void test_large(void **state)
{
    (void)state;
    struct buf out;
    struct err err = ERR_INIT;
    struct seen s;
    buf_init(&out, 1 << 20);
    assert_int_equal(tar_put_file(&out, "big", 1ull << 40, &err), 0);
    assert_int_equal(out.len, 3 * TAR_BLOCK);
    const struct tar_sink sink = {&s, on_begin, on_data, on_end};
    const struct tar_limits limits = {1ull << 41, 100};
    struct tar_reader *r = tar_reader_new(&sink, &limits);
    assert_int_equal(tar_reader_feed(r, out.data, out.len, &err), 0);
    assert_true(s.now.size == 1ull << 40);
    assert_int_equal(tar_reader_finish(r, &err), -E_FORMAT);
    assert_non_null(strstr(err.msg, "cut short"));
    tar_reader_free(r);
    buf_release(&out);
}

/* A header of any kind, with a right checksum. */
static void raw_header(struct buf *out, const char *name, char type, const char *size)
{
    char h[TAR_BLOCK] = {0};
    unsigned sum = 0;
    memcpy(h, name, strlen(name));
    memcpy(h + 100, "0000644", 7);
    memcpy(h + 124, size, strlen(size));
    h[156] = type;
    memcpy(h + 157, "target", 6);
    memcpy(h + 257, "ustar\00000", 8);
    memset(h + 148, ' ', 8);
    for (size_t i = 0; i < sizeof(h); i++)
        sum += (unsigned char)h[i];
    snprintf(h + 148, 8, "%06o", sum);
    buf_append(out, h, sizeof(h));
}

static void expect(const struct buf *b, int code, const char *what)
{
    struct seen s;
    struct err err = ERR_INIT;
    for (size_t piece = 1; piece <= 513; piece += 256) {
        int rc = read_pieces(b->data, b->len, piece, &s, &err);
        if (rc != -code || (what && !strstr(err.msg, what)))
            fail_msg("%d '%s' instead of '%s'", rc, err.msg, what ? what : "nothing");
        buf_release(&s.text);
    }
}

static void test_hostile(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        char type;
        const char *size;
        int code;
        const char *what;
    } cases[] = {
        {"l", '2', "00000000000", E_FORMAT, "symbolic link"},
        {"l", '1', "00000000000", E_FORMAT, "hard link"},
        {"l", '3', "00000000000", E_FORMAT, "device"},
        {"l", '4', "00000000000", E_FORMAT, "device"},
        {"l", '6', "00000000000", E_FORMAT, "pipe"},
        {"l", 'S', "00000000000", E_UNSUPPORTED, "sparse"},
        {"l", 'V', "00000000000", E_UNSUPPORTED, "kind"},
        {"/etc/passwd", '0', "00000000000", E_FORMAT, "inside"},
        {"../x", '0', "00000000000", E_FORMAT, "inside"},
        {"a/../../x", '0', "00000000000", E_FORMAT, "inside"},
        {"a/../b", '5', "00000000000", E_FORMAT, "inside"},
        {"a\\b", '0', "00000000000", E_FORMAT, "inside"},
        {"C:\\x", '0', "00000000000", E_FORMAT, "inside"},
        {"a\x01", '0', "00000000000", E_FORMAT, "inside"},
        {"a\xff", '0', "00000000000", E_FORMAT, "inside"},
        {"", '0', "00000000000", E_FORMAT, "inside"},
        {"a", '0', "77777777777", E_LIMIT, "limit"},
        {"a", '0', "12x", E_FORMAT, "number"},
        {"a", '0', "-1", E_FORMAT, "number"},
        {"a", '0', "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", E_FORMAT, "number"},
        {"a", '0', "\x80\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01", E_FORMAT, "number"},
        {"a", 'x', "00000777777", E_LIMIT, "65536"},
        {"a", '0', "00000000001", E_FORMAT, "cut short"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b;
        buf_init(&b, 1 << 20);
        raw_header(&b, cases[i].name, cases[i].type, cases[i].size);
        expect(&b, cases[i].code, cases[i].what);
        buf_release(&b);
    }
}

static void put_pax(struct buf *b, const char *records)
{
    char size[16];
    snprintf(size, sizeof(size), "%011o", (unsigned)strlen(records));
    raw_header(b, "pax", 'x', size);
    buf_append_str(b, records);
    tar_put_padding(b, strlen(records));
}

static void test_hostile_pax(void **state)
{
    (void)state;
    static const struct {
        const char *records;
        int code;
        const char *what;
    } cases[] = {
        {"19 path=/etc/passwd\n", E_FORMAT, "malformed"}, /* one too few */
        {"20 path=/etc/passwd\n", E_FORMAT, "inside"},
        {"14 path=../xy\n", E_FORMAT, "inside"},
        {"9 path=a\x01\n", E_FORMAT, NULL},
        {"12 size=-12\n", E_FORMAT, "number"},
        {"13 size=9999\n", E_FORMAT, "cut short"},
        {"29 size=99999999999999999999\n", E_FORMAT, NULL},
        {"8 size=\n", E_FORMAT, "number"},
        {"22 GNU.sparse.major=1\n", E_UNSUPPORTED, "sparse"},
        {"path=x\n", E_FORMAT, "malformed"},
        {"9999999 path=x\n", E_FORMAT, "malformed"},
        {"10 path=xx", E_FORMAT, "malformed"},
        {"0 path=x\n", E_FORMAT, "malformed"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b;
        buf_init(&b, 1 << 20);
        put_pax(&b, cases[i].records);
        raw_header(&b, "ok", '0', "00000000000");
        tar_put_end(&b);
        expect(&b, cases[i].code, cases[i].what);
        buf_release(&b);
    }
}

static void test_other_writers(void **state)
{
    (void)state;
    struct buf b, longer;
    struct seen s;
    struct err err = ERR_INIT;
    buf_init(&b, 1 << 20);
    buf_init(&longer, 4096);
    /* GNU's long name, a name with "./", an old folder with a slash, the folder itself, a global
     * header, a binary size, no end at all */
    for (int i = 0; i < 60; i++)
        buf_append_str(&longer, i ? "/part" : "part");
    raw_header(&b, "././@LongLink", 'L', "00000000453");
    buf_append(&b, longer.data, longer.len);
    tar_put_padding(&b, longer.len);
    raw_header(&b, "part/part", '0', "00000000000");
    raw_header(&b, "./", '5', "00000000000");
    raw_header(&b, "././x/y", '0', "\x80");
    raw_header(&b, "old/", '\0', "00000000000");
    raw_header(&b, "g", 'g', "00000000000");
    if (read_pieces(b.data, b.len, 100, &s, &err) < 0)
        fail_msg("%s", err.msg);
    buf_append_str(&longer, " 0 0\nx/y 0 0\nold/\n");
    assert_string_equal(buf_str(&s.text), buf_str(&longer));
    buf_release(&s.text);
    /* something after the end; something between the zeros; garbage; too many entries */
    buf_clear(&b);
    tar_put_end(&b);
    buf_append_char(&b, 'x');
    expect(&b, E_FORMAT, "follows");
    buf_clear(&b);
    tar_put_end(&b);
    b.len -= TAR_BLOCK;
    raw_header(&b, "x", '0', "0");
    expect(&b, E_FORMAT, "zeros");
    buf_clear(&b);
    for (int i = 0; i < 512; i++)
        buf_append_char(&b, 'A');
    expect(&b, E_FORMAT, "checksum");
    buf_clear(&b);
    expect(&b, E_FORMAT, "empty");
    for (int i = 0; i < 101; i++)
        raw_header(&b, "x", '0', "0");
    expect(&b, E_LIMIT, "100 entries");
    buf_release(&longer);
    buf_release(&b);
}

/* The archive that Docker Model Runner's own tests read, made by libarchive. */
static void test_vector(void **state)
{
    (void)state;
    struct buf b;
    struct seen s;
    struct err err = ERR_INIT;
    assert_int_equal(file_read_all("tests/data/docker-model/archive.tar", 1 << 20, &b, &err), 0);
    assert_int_equal(read_pieces(b.data, b.len, 777, &s, &err), 0);
    assert_non_null(strstr(buf_str(&s.text), "ignore-me/.gitkeep 0 0\n"));
    assert_non_null(strstr(buf_str(&s.text), "blobs/sha256/bec7cb2222b54879bf3c7e70504960bdfbd898"
                                             "a05ab1f8247808484869a46bad 18 "));
    assert_non_null(strstr(buf_str(&s.text), "manifest.json 22 "));
    buf_release(&s.text);
    buf_release(&b);
}

/* ---- compressed streams ---- */

static int take(void *ctx, const void *p, size_t n, struct err *err)
{
    return buf_append(ctx, p, n) < 0 ? buf_status(ctx, "out", err) : 0;
}

static int count(void *ctx, const void *p, size_t n, struct err *err)
{
    (void)p;
    (void)err;
    *(uint64_t *)ctx += n;
    return 0;
}

static int unpack(enum inflate_kind kind, const void *p, size_t n, size_t piece, inflate_fn fn,
                  void *ctx, struct err *err)
{
    struct inflate *z;
    int rc = inflate_new(kind, fn, ctx, &z, err);
    assert_int_equal(rc, 0);
    for (size_t at = 0; rc == 0 && at < n; at += piece)
        rc = inflate_feed(z, (const char *)p + at, MIN_OF(piece, n - at), err);
    if (rc == 0)
        rc = inflate_finish(z, err);
    inflate_free(z);
    return rc;
}

static size_t pack(enum inflate_kind kind, const void *p, size_t n, void *out, size_t cap)
{
    if (kind == INFLATE_ZSTD)
        return ZSTD_compress(out, cap, p, n, 3);
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)p, .avail_in = (unsigned)n};
    deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
    z.next_out = out;
    z.avail_out = (unsigned)cap;
    deflate(&z, Z_FINISH);
    size_t len = cap - z.avail_out;
    deflateEnd(&z);
    return len;
}

static void test_streams(void **state)
{
    (void)state;
    enum { N = 300000 };
    char *plain = mem_alloc(N), *packed = mem_alloc(2 * N);
    struct buf out;
    struct err err = ERR_INIT;
    for (size_t i = 0; i < N; i++)
        plain[i] = (char)(i * i >> 7);
    buf_init(&out, 8 * N);
    for (enum inflate_kind kind = INFLATE_GZIP; kind <= INFLATE_ZSTD; kind++) {
        size_t n = pack(kind, plain, N, packed, N);
        size_t both = n + pack(kind, plain, 10, packed + n, N);
        for (size_t piece = 1; piece < 2 * N; piece *= 37) {
            buf_clear(&out);
            if (unpack(kind, packed, both, piece, take, &out, &err) < 0)
                fail_msg("%s", err.msg);
            assert_int_equal(out.len, N + 10);
            assert_memory_equal(out.data, plain, N);
        }
        buf_clear(&out);
        assert_int_equal(unpack(kind, packed, n - 1, n, take, &out, &err), -E_FORMAT);
        assert_non_null(strstr(err.msg, "cut short"));
        assert_int_equal(unpack(kind, packed, 0, 1, take, &out, &err), -E_FORMAT);
        /* zstd need not carry a checksum; the digest of what comes out tells then */
        packed[kind == INFLATE_GZIP ? n / 2 : 1] ^= 0x55;
        assert_int_equal(unpack(kind, packed, n, 1000, take, &out, &err), -E_FORMAT);
        assert_int_equal(unpack(kind, "not packed", 10, 3, take, &out, &err), -E_FORMAT);
    }
    buf_release(&out);
    mem_free(plain);
    mem_free(packed);
}

/* Few bytes that would become very many; a window that no memory holds. */
static void test_bombs(void **state)
{
    (void)state;
    const size_t n = 64 << 20;
    char *zeros = mem_alloc(n), *packed = mem_alloc(1 << 20);
    struct err err = ERR_INIT;
    uint64_t seen = 0;
    size_t len = pack(INFLATE_ZSTD, zeros, n, packed, 1 << 20);
    assert_true(len < n / 2000);
    assert_int_equal(unpack(INFLATE_ZSTD, packed, len, len, count, &seen, &err), -E_LIMIT);
    assert_true(seen <= (1 << 20) + (256 << 10) + 1024 * len);
    /* a frame header that declares a window of 2 GiB: magic, descriptor, window descriptor */
    static const char window[] = "\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00";
    assert_int_equal(unpack(INFLATE_ZSTD, window, sizeof(window) - 1, 100, count, &seen, &err),
                     -E_LIMIT);
    assert_non_null(strstr(err.msg, "window"));
    mem_free(zeros);
    mem_free(packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round),         cmocka_unit_test(test_large),
        cmocka_unit_test(test_hostile),       cmocka_unit_test(test_hostile_pax),
        cmocka_unit_test(test_other_writers), cmocka_unit_test(test_vector),
        cmocka_unit_test(test_streams),       cmocka_unit_test(test_bombs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
