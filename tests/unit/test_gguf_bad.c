/* SPDX-License-Identifier: Apache-2.0 */
/* worker/model: truncated, lying and absurd GGUF files are refused at open, by name, before memory
 * is spent. */
#include "tests/support/cmocka_all.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "tests/support/gguf_build.h"
#include "worker/model/hparams.h"

static const uint64_t one_row[] = {64};

/* A right file to spoil: llama's keys and two tensors. */
static void build_right(struct gguf_build *b)
{
    build_init(b);
    build_llama(b);
    build_tensor(b, "first.weight", DTYPE_F32, 1, one_row);
    build_tensor(b, "last.weight", DTYPE_Q8_0, 2, (const uint64_t[]){32, 3});
}

/* Opening b fails with code and a sentence that holds says (and the file's name); releases b. */
static void refused(struct gguf_build *b, int code, const char *says)
{
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    int rc = build_open(b, 0, &g, &err);
    if (rc != -code || !strstr(err.msg, says) || strncmp(err.msg, "test.gguf: ", 11) != 0)
        fail_msg("%d instead of %d '%s': %s", rc, -code, says, err.msg);
    assert_null(g);
    build_release(b);
}

static size_t rss_pages(void)
{
    unsigned long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &size, &resident), 2);
    fclose(f);
    return resident;
}

static void a_right_file_opens(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    struct gguf_build b;
    build_right(&b);
    b.cut_bytes = 32 * 4 - 102; /* the padding after the last tensor may be missing */
    assert_int_equal(build_open(&b, 0, &g, &err), 0);
    assert_memory_equal((const char *)gguf_tensor_at(g, 1)->data + 101, "\x65", 1);
    gguf_close(g);
    build_release(&b);
}

/* One open of the first n bytes; the message says what and where. */
static void truncated(int fd, size_t n)
{
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    const char *name = "cut.gguf";
    assert_int_equal(ftruncate(fd, (off_t)n), 0);
    int rc = gguf_open(&fd, &name, 1, n % 2 ? GGUF_HEADER_ONLY : 0, &g, &err);
    bool names = strstr(err.msg, ": header: ") || strstr(err.msg, ": metadata key '") ||
                 strstr(err.msg, ": metadata key number ") || strstr(err.msg, ": tensor '") ||
                 strstr(err.msg, ": tensor number ");
    if (rc != -E_FORMAT || !names || !strstr(err.msg, "offset "))
        fail_msg("%zu bytes: %d: %s", n, rc, err.msg);
    assert_null(g);
}

static void truncation_anywhere_is_named(void **state)
{
    (void)state;
    struct buf file;
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    build_read("models/stories.gguf", &file);
    assert_int_equal(build_open_bytes(file.data, file.len, 0, &g, &err), 0);
    size_t data_start = gguf_tensor_at(g, 0)->offset;
    const struct gguf_tensor *last = gguf_tensor_at(g, gguf_n_tensors(g) - 1);
    size_t end = last->offset + last->n_bytes;
    gguf_close(g);
    int fd = build_fd(file.data, file.len);
    truncated(fd, end - 1);
    uint64_t x = 88172645463325252u;
    for (int i = 0; i < 100; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        size_t n = data_start + x % (end - data_start);
        assert_int_equal(pwrite(fd, file.data, file.len, 0), file.len);
        truncated(fd, n);
    }
    assert_int_equal(pwrite(fd, file.data, file.len, 0), file.len);
    for (size_t n = data_start; n > 0; n--)
        truncated(fd, n);
    truncated(fd, 0);
    close(fd);
    buf_release(&file);
}

/* Flipping any byte of the header ends in an error or in a file that is still consistent: never in
 * a crash. */
static void any_byte_of_the_header_may_lie(void **state)
{
    (void)state;
    struct buf file;
    build_read("models/stories.gguf", &file);
    int fd = build_fd(file.data, file.len);
    const char *name = "flip.gguf";
    for (size_t at = 0; at < 12000; at += at < 64 ? 1 : 7) {
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        struct hparams h;
        char was = file.data[at], flipped = (char)~was;
        assert_int_equal(pwrite(fd, &flipped, 1, (off_t)at), 1);
        int rc = gguf_open(&fd, &name, 1, 0, &g, &err);
        assert_true(rc == 0 || err.msg[0]);
        if (rc == 0 && hparams_from_gguf(g, &h, &err) == 0)
            hparams_release(&h);
        gguf_close(g);
        assert_int_equal(pwrite(fd, &was, 1, (off_t)at), 1);
    }
    close(fd);
    buf_release(&file);
}

static void absurd_counts_cost_nothing(void **state)
{
    (void)state;
    /* The last are what the file could hold by its size alone; they must fail later, but within the
     * tables' limits. */
    static const uint64_t counts[] = {1ull << 63, (1ull << 32) + 1, UINT64_MAX, 1ull << 40,
                                      1185000,    100000,           35000};
    struct buf file;
    build_read("models/stories.gguf", &file);
    int fd = build_fd(file.data, file.len);
    const char *name = "absurd.gguf";
    size_t before = rss_pages();
    for (size_t i = 0; i < 2 * ARRAY_LEN(counts); i++) {
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        off_t at = i % 2 ? 16 : 8;
        uint64_t was;
        memcpy(&was, file.data + at, sizeof(was));
        assert_int_equal(pwrite(fd, &counts[i / 2], 8, at), 8);
        int rc = gguf_open(&fd, &name, 1, 0, &g, &err);
        if ((rc != -E_FORMAT && rc != -E_LIMIT) ||
            (counts[i / 2] > 200000 &&
             !strstr(err.msg, i % 2 ? "number of metadata keys" : "number of tensors")))
            fail_msg("%d: %s", rc, err.msg);
        assert_int_equal(pwrite(fd, &was, 8, at), 8);
#ifndef BERTH_SAN /* sanitizers keep freed memory */
        assert_true(rss_pages() <
                    before + (counts[i / 2] > UINT32_MAX ? 1u << 20 : 16u << 20) / 4096);
#endif
    }
    (void)before;
    close(fd);
    buf_release(&file);
}

/* Counts that are too small: what they leave out is found at the end, or read as something it is
 * not. */
static void counts_that_leave_something_out(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint64_t count;
        const char *says;
    } cases[] = {
        {8, 0, "after all 0 tensors, that nothing describes"},
        {8, 47, "after all 47 tensors, that nothing describes"},
        {16, 0, "tensor 'tokenizer.ggml.tokens': it has 9 dimensions"},
        {16, 18, "tensor '"},
    };
    struct buf file;
    build_read("models/stories.gguf", &file);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        uint64_t was;
        memcpy(&was, file.data + cases[i].at, sizeof(was));
        memcpy(file.data + cases[i].at, &cases[i].count, sizeof(was));
        int rc = build_open_bytes(file.data, file.len, 0, &g, &err);
        if ((rc != -E_FORMAT && rc != -E_LIMIT) || !strstr(err.msg, cases[i].says))
            fail_msg("%d: %s", rc, err.msg);
        memcpy(file.data + cases[i].at, &was, sizeof(was));
    }
    buf_release(&file);
}

static void absurd_lengths(void **state)
{
    (void)state;
    struct gguf_build b;
    static const uint64_t lengths[] = {UINT64_MAX, 1ull << 63, 1ull << 40, UINT64_MAX - 7};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        build_right(&b);
        build_key(&b, "long.string", GGUF_STRING);
        build_u64(&b.values, lengths[i]);
        refused(&b, E_FORMAT, "metadata key 'long.string': the file ends inside the value");
        build_right(&b);
        build_u64(&b.values, lengths[i]); /* of a key */
        b.n_values++;
        refused(&b, E_FORMAT, "metadata key number 9 of 9: the file ends inside the name");
        build_right(&b);
        build_u64(&b.tensors, lengths[i]);
        b.n_tensors++;
        refused(&b, E_FORMAT, "tensor number 3 of 3: the file ends inside the name");
    }
    static const uint64_t counts[] = {1ull << 61, UINT64_MAX, 1ull << 32, 200};
    static const enum gguf_type items[] = {GGUF_U64, GGUF_STRING, GGUF_F32, GGUF_BOOL, GGUF_I16};
    for (size_t i = 0; i < ARRAY_LEN(counts) * ARRAY_LEN(items); i++) {
        build_init(&b);
        build_kv_array(&b, "long.array", items[i % ARRAY_LEN(items)], counts[i / ARRAY_LEN(items)]);
        refused(&b, E_FORMAT, "metadata key 'long.array': the array of ");
    }
    /* The last string of an array runs past the end. */
    build_init(&b);
    build_kv_array(&b, "strings", GGUF_STRING, 2);
    build_bytes(&b.values, "right");
    build_u64(&b.values, 100);
    refused(&b, E_FORMAT, "metadata key 'strings': the file ends inside the array");
    build_init(&b);
    build_kv_array(&b, "nested", GGUF_ARRAY, 1);
    build_u32(&b.values, GGUF_U32);
    build_u64(&b.values, 1);
    build_u32(&b.values, 7);
    refused(&b, E_UNSUPPORTED, "metadata key 'nested': arrays inside arrays");
}

static void values_over_their_limits(void **state)
{
    (void)state;
    struct gguf_build b;
    static char big[LIMIT_GGUF_STRING_BYTES + 2];
    memset(big, 'k', sizeof(big) - 1);
    build_init(&b);
    build_kv_str(&b, "value", big);
    refused(&b, E_LIMIT,
            "metadata key 'value': the value is 16777217 bytes long; berth's limit is 16777216");
    big[LIMIT_GGUF_KEY_BYTES + 1] = '\0';
    build_init(&b);
    build_kv_str(&b, big, "v");
    refused(&b, E_LIMIT,
            "metadata key number 1 of 1: the name is 65536 bytes long; berth's limit is 65535");
    build_init(&b);
    build_kv_str(&b, "", "v");
    refused(&b, E_FORMAT, "metadata key number 1 of 1: the name is empty");
    build_init(&b);
    build_u64(&b.values, 3);
    assert_int_equal(buf_append(&b.values, "a\0b", 3), 0);
    build_u32(&b.values, GGUF_U8);
    build_u32(&b.values, 0);
    b.n_values = 1;
    refused(&b, E_FORMAT, "the name holds a NUL byte");
    build_init(&b);
    build_key(&b, "strange", (enum gguf_type)13);
    build_u64(&b.values, 0);
    refused(&b, E_FORMAT,
            "metadata key 'strange': the value type is 13, which GGUF does not define");
    build_init(&b);
    build_kv_array(&b, "strange", (enum gguf_type)4000000000u, 1);
    refused(&b, E_FORMAT, "metadata key 'strange': the array's item type is 4000000000");
    build_init(&b);
    build_kv_int(&b, "truth", GGUF_BOOL, 2);
    refused(&b, E_FORMAT, "metadata key 'truth': a bool is 2");
}

static void bad_dimensions(void **state)
{
    (void)state;
    static const struct {
        uint32_t type, n;
        uint64_t dims[5];
        int code;
        const char *says;
    } cases[] = {
        {DTYPE_F32,
         2,
         {1ull << 32, 1ull << 32},
         E_FORMAT,
         "tensor 'bad.weight': its dimensions 4294967296 x"},
        {DTYPE_F32, 4, {1 << 16, 1 << 16, 1 << 16, 1 << 16}, E_FORMAT, "overflow"},
        {DTYPE_F32, 1, {1ull << 62}, E_FORMAT, "overflow"}, /* the bytes do */
        {DTYPE_Q8_0, 2, {1ull << 40, 1ull << 23}, E_FORMAT, "overflow"},
        {DTYPE_F32, 1, {0}, E_FORMAT, "tensor 'bad.weight': dimension 0 is 0"},
        {DTYPE_F32, 3, {4, 0, 4}, E_FORMAT, "tensor 'bad.weight': dimension 1 is 0"},
        {DTYPE_F32, 2, {4, (uint64_t)-4}, E_FORMAT, "tensor 'bad.weight': dimension 1 is -4"},
        {DTYPE_F32, 5, {1, 1, 1, 1, 1}, E_LIMIT, "tensor 'bad.weight': it has 5 dimensions"},
        {DTYPE_F32, 0, {0}, E_FORMAT, "tensor 'bad.weight': it has no dimensions"},
        {DTYPE_Q4_0,
         1,
         {33},
         E_FORMAT,
         "tensor 'bad.weight': its rows of 33 elements are not whole blocks of 32"},
        {DTYPE_Q4_K,
         2,
         {128, 2},
         E_FORMAT,
         "its rows of 128 elements are not whole blocks of 256 elements of type Q4_K"},
        {255, 1, {32}, E_FORMAT, "tensor 'bad.weight': its type 255 is unknown"},
        {4, 1, {32}, E_FORMAT, "tensor 'bad.weight': its type 4 is unknown"},
        {36, 1, {32}, E_FORMAT, "tensor 'bad.weight': its type 36 is unknown"},
        {UINT32_MAX, 1, {32}, E_FORMAT, "tensor 'bad.weight': its type 4294967295 is unknown"},
        {16, 1, {256}, E_UNSUPPORTED, "tensor 'bad.weight': its type IQ2_XXS is not read"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct gguf_build b;
        build_right(&b);
        build_tensor_raw(&b, "bad.weight", cases[i].type, cases[i].n, cases[i].dims, b.data_bytes);
        b.data_bytes += 64;
        refused(&b, cases[i].code, cases[i].says);
    }
    struct gguf_build b;
    build_right(&b);
    build_bytes(&b.tensors, "bad.weight");
    build_u32(&b.tensors, 100000000);
    build_u64(&b.tensors, 0);
    b.n_tensors++;
    b.data_bytes += 1024;
    refused(&b, E_LIMIT, "tensor 'bad.weight': it has 100000000 dimensions");
}

static void bad_offsets(void **state)
{
    (void)state;
    static const struct {
        uint64_t offset;
        const char *says;
    } cases[] = {
        {1ull << 40,
         "tensor 'bad.weight': its 256 bytes at offset 1099511627776 of the data end past the end"},
        {UINT64_MAX - 31, "tensor 'bad.weight': its 256 bytes at offset 18446744073709551584"},
        {1ull << 63, "end past the end of the file"},
        {384 + 1, "tensor 'bad.weight': its offset 385 is not a multiple of the alignment 32"},
        {0, "tensor 'bad.weight': its offset is 0 where 384 is due: it overlaps"},
        {352, "tensor 'bad.weight': its offset is 352 where 384 is due: it overlaps"},
        {416, "tensor 'bad.weight': its offset is 416 where 384 is due: there is a hole"},
    };
    struct gguf_build b;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        build_right(&b);
        build_tensor_raw(&b, "bad.weight", DTYPE_F32, 1, one_row, cases[i].offset);
        b.data_bytes += 1024;
        refused(&b, E_FORMAT, cases[i].says);
    }
    build_right(&b);
    b.cut_bytes = 32 * 4 - 102 + 1;
    refused(&b, E_FORMAT,
            "tensor 'last.weight': its 102 bytes at offset 256 of the data end past the end of the "
            "file");
    build_right(&b);
    b.cut_bytes = b.data_bytes;
    refused(&b, E_FORMAT, "tensor 'first.weight'");
    build_right(&b);
    b.data_bytes++;
    refused(&b, E_FORMAT, "header: the file has 1 bytes from offset ");
}

static void bad_alignments(void **state)
{
    (void)state;
    static const struct {
        uint32_t alignment;
        int code;
    } cases[] = {
        {0, E_FORMAT},  {1, E_FORMAT},       {3, E_FORMAT},         {4, E_FORMAT},
        {48, E_FORMAT}, {1u << 31, E_LIMIT}, {UINT32_MAX, E_LIMIT}, {(1u << 20) + 1, E_LIMIT}};
    struct gguf_build b;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        build_right(&b);
        build_kv_u32(&b, "general.alignment", cases[i].alignment);
        refused(&b, cases[i].code, "metadata key 'general.alignment' is ");
    }
    build_right(&b);
    build_kv_str(&b, "general.alignment", "32");
    refused(&b, E_FORMAT,
            "metadata key 'general.alignment' is of type string; an integer is needed");
    for (uint32_t a = 8; a <= 4096; a *= 8) {
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        build_init(&b);
        b.alignment = a;
        build_kv_u32(&b, "general.alignment", a);
        build_tensor(&b, "one", DTYPE_F32, 1, (const uint64_t[]){3});
        build_tensor(&b, "two", DTYPE_F32, 1, one_row);
        assert_int_equal(build_open(&b, 0, &g, &err), 0);
        assert_int_equal(gguf_tensor_at(g, 1)->offset % a, 0);
        gguf_close(g);
        build_release(&b);
    }
}

static void duplicates(void **state)
{
    (void)state;
    struct gguf_build b;
    build_right(&b);
    build_kv_str(&b, "llama.block_count", "2");
    refused(&b, E_FORMAT, "metadata key 'llama.block_count' is there twice");
    build_right(&b);
    build_tensor(&b, "first.weight", DTYPE_F32, 1, one_row);
    refused(&b, E_FORMAT, "tensor 'first.weight' is there twice");
    build_right(&b);
    build_tensor(&b, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", DTYPE_F32,
                 1, one_row);
    refused(&b, E_LIMIT, "tensor number 3 of 3: the name is 64 bytes long; berth's limit is 63");
    build_right(&b);
    build_tensor(&b, "", DTYPE_F32, 1, one_row);
    refused(&b, E_FORMAT, "tensor number 3 of 3: the name is empty");
}

static void bad_magic_and_versions(void **state)
{
    (void)state;
    static const struct {
        uint32_t version;
        const char *says;
    } cases[] = {
        {0, "GGUF version 0 is not read"},
        {1, "GGUF version 1 is not read"},
        {4, "GGUF version 4 is not read, only 2 and 3"},
        {0x03000000, "a big-endian GGUF file (version 3)"},
        {0x02000000, "a big-endian GGUF file (version 2)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct gguf_build b;
        build_right(&b);
        b.version = cases[i].version;
        refused(&b, E_UNSUPPORTED, cases[i].says);
    }
    static const char *const magics[][2] = {
        {"FUGG....", "it begins with the bytes 46 55 47 47"},
        {"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"},
        {"tjgg....", "an old GGJT file"},
        {"PK\003\004....", "a ZIP archive"},
        {"<!DOCTYPE html>", "an HTML page"},
        {"GG", "the file ends inside the magic: 4 bytes are needed at offset 0"},
    };
    for (size_t i = 0; i < ARRAY_LEN(magics); i++) {
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        assert_int_equal(build_open_bytes(magics[i][0], strlen(magics[i][0]), 0, &g, &err),
                         -E_FORMAT);
        assert_non_null(strstr(err.msg, magics[i][1]));
    }
}

/* Names from the file are cut and cleaned: the message stays one printable line that still says
 * what is wrong. */
static void hostile_names_stay_harmless_in_messages(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    struct gguf_build b;
    char key[5001];
    memset(key, '\x1b', sizeof(key) - 1);
    key[sizeof(key) - 1] = '\0';
    build_init(&b);
    build_key(&b, key, (enum gguf_type)77);
    build_u32(&b.values, 0);
    assert_int_equal(build_open(&b, 0, &g, &err), -E_FORMAT);
    assert_null(strchr(err.msg, '\x1b'));
    assert_non_null(strstr(err.msg, "the value type is 77"));
    build_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_file_opens),
        cmocka_unit_test(truncation_anywhere_is_named),
        cmocka_unit_test(any_byte_of_the_header_may_lie),
        cmocka_unit_test(absurd_counts_cost_nothing),
        cmocka_unit_test(counts_that_leave_something_out),
        cmocka_unit_test(absurd_lengths),
        cmocka_unit_test(values_over_their_limits),
        cmocka_unit_test(bad_dimensions),
        cmocka_unit_test(bad_offsets),
        cmocka_unit_test(bad_alignments),
        cmocka_unit_test(duplicates),
        cmocka_unit_test(bad_magic_and_versions),
        cmocka_unit_test(hostile_names_stay_harmless_in_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
