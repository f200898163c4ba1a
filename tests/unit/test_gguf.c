/* SPDX-License-Identifier: Apache-2.0 */
/* worker/model: what GGUF files hold, typed reads, labels, JSON; files made by others; running out
 * of memory. */
#include "tests/support/cmocka_all.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "tests/support/gguf_build.h"
#include "worker/model/gguf_show.h"
#include "worker/model/hparams.h"

static void types_have_their_sizes(void **state)
{
    (void)state;
    static const struct {
        enum dtype t;
        const char *name;
        uint32_t elements, bytes;
        bool is_weight;
    } want[] = {
        {DTYPE_F32, "F32", 1, 4, true},
        {DTYPE_F16, "F16", 1, 2, true},
        {DTYPE_BF16, "BF16", 1, 2, true},
        {DTYPE_Q4_0, "Q4_0", 32, 18, true},
        {DTYPE_Q4_1, "Q4_1", 32, 20, true},
        {DTYPE_Q5_0, "Q5_0", 32, 22, true},
        {DTYPE_Q5_1, "Q5_1", 32, 24, true},
        {DTYPE_Q8_0, "Q8_0", 32, 34, true},
        {DTYPE_Q2_K, "Q2_K", 256, 84, true},
        {DTYPE_Q3_K, "Q3_K", 256, 110, true},
        {DTYPE_Q4_K, "Q4_K", 256, 144, true},
        {DTYPE_Q5_K, "Q5_K", 256, 176, true},
        {DTYPE_Q6_K, "Q6_K", 256, 210, true},
        {DTYPE_IQ4_NL, "IQ4_NL", 32, 18, true},
        {DTYPE_IQ4_XS, "IQ4_XS", 256, 136, true},
        {DTYPE_MXFP4, "MXFP4", 32, 17, true},
        {DTYPE_I8, "I8", 1, 1, false},
        {DTYPE_I16, "I16", 1, 2, false},
        {DTYPE_I32, "I32", 1, 4, false},
        {DTYPE_I64, "I64", 1, 8, false},
        {DTYPE_F64, "F64", 1, 8, false},
    };
    size_t known = 0;
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        const struct dtype_info *t = dtype_info(want[i].t);
        assert_string_equal(t->name, want[i].name);
        assert_int_equal(t->block_elements, want[i].elements);
        assert_int_equal(t->block_bytes, want[i].bytes);
        assert_int_equal(t->is_weight, want[i].is_weight);
    }
    for (uint32_t id = 0; id < 300; id++)
        known += dtype_info(id)->name != NULL;
    assert_int_equal(known, ARRAY_LEN(want));
    assert_null(dtype_info(UINT32_MAX)->name);
    assert_int_equal(dtype_row_bytes(dtype_info(DTYPE_Q4_K), 512), 288);
}

static void the_shipped_model_reads(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    assert_int_equal(gguf_open_path("models/stories.gguf", 0, &g, &err), 0);
    assert_int_equal(gguf_version(g), 3);
    assert_int_equal(gguf_n_tensors(g), 48);
    assert_int_equal(gguf_n_values(g), 19);
    assert_int_equal(gguf_file_bytes(g), 1185376);
    assert_int_equal(gguf_n_params(g), 292800);
    assert_string_equal(gguf_quant_name(g), "F32");
    const struct gguf_tensor *t = gguf_find_tensor(g, "blk.4.ffn_down.weight");
    assert_non_null(t);
    assert_int_equal(t->dims[0], 172);
    assert_int_equal(t->dims[1], 64);
    assert_int_equal(t->dims[2] * t->dims[3], 1);
    assert_int_equal(t->n_bytes, 172 * 64 * 4);
    assert_ptr_equal(gguf_find_tensor(g, "no.such.tensor"), NULL);
    /* Its bytes are the file's. */
    float f[2];
    int fd = open("models/stories.gguf", O_RDONLY);
    assert_int_equal(pread(fd, f, sizeof(f), (off_t)t->offset), sizeof(f));
    close(fd);
    assert_memory_equal(f, t->data, sizeof(f));
    /* The header alone names the same places and maps none of them. */
    struct gguf *h = NULL;
    assert_int_equal(gguf_open_path("models/stories.gguf", GGUF_HEADER_ONLY, &h, &err), 0);
    const struct gguf_tensor *u = gguf_find_tensor(h, "blk.4.ffn_down.weight");
    assert_int_equal(u->offset, t->offset);
    assert_null(u->data);
    gguf_close(h);
    gguf_close(g);
}

static void every_type_of_value_reads(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    assert_int_equal(gguf_open_path("tests/data/gguf/dummy.gguf", 0, &g, &err), 0);
    uint64_t u;
    int64_t i;
    float f;
    bool b;
    struct str s;
    assert_int_equal(gguf_get_u64(g, "some.parameter.uint8", 0, 255, 0, &u, &err), 0);
    assert_int_equal(u, 0x12);
    assert_int_equal(gguf_get_i64(g, "some.parameter.int8", 0, &i, &err), 0);
    assert_int_equal(i, -0x13);
    assert_int_equal(gguf_get_u64(g, "some.parameter.uint16", 0, UINT64_MAX, 0, &u, &err), 0);
    assert_int_equal(u, 0x1234);
    assert_int_equal(gguf_get_i64(g, "some.parameter.int16", 0, &i, &err), 0);
    assert_int_equal(i, -0x1235);
    assert_int_equal(gguf_get_i64(g, "some.parameter.int32", 0, &i, &err), 0);
    assert_int_equal(i, -0x12345679);
    assert_int_equal(gguf_get_u64(g, "some.parameter.uint64", 0, UINT64_MAX, 0, &u, &err), 0);
    assert_int_equal(u, 0x123456789abcdef0);
    assert_int_equal(gguf_get_i64(g, "some.parameter.int64", 0, &i, &err), 0);
    assert_int_equal(i, -0x123456789abcdef1);
    assert_int_equal(gguf_get_f32(g, "some.parameter.float32", 0, &f, &err), 0);
    assert_true(f == 0.123456789f);
    assert_int_equal(gguf_get_f32(g, "some.parameter.float64", 0, &f, &err), 0);
    assert_true(f == 0.123456789f);
    assert_true(gguf_item_f64(gguf_find(g, "some.parameter.float64"), 0) ==
                0.12345678901234567890123456789);
    assert_int_equal(gguf_get_bool(g, "some.parameter.bool", false, &b, &err), 0);
    assert_true(b);
    assert_int_equal(gguf_get_str(g, "some.parameter.string", STR_LIT(""), &s, &err), 0);
    assert_true(str_is(s, "hello world"));
    assert_int_equal(gguf_item_i64(gguf_find(g, "some.parameter.arr.i16"), 3), 4);
    assert_true((float)gguf_item_f64(gguf_find(g, "some.parameter.arr.f32"), 1) == 2.718f);
    size_t cursor = 0;
    const char *const words[] = {"hello", "world", "!"};
    for (size_t n = 0; n < ARRAY_LEN(words); n++) {
        assert_true(gguf_next_str(gguf_find(g, "some.parameter.arr.str"), &cursor, &s));
        assert_true(str_is(s, words[n]));
    }
    assert_false(gguf_next_str(gguf_find(g, "some.parameter.arr.str"), &cursor, &s));
    gguf_close(g);
}

static void typed_reads_refuse_other_types(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    uint64_t u = 7;
    int64_t i;
    float f;
    bool b;
    struct str s;
    assert_int_equal(gguf_open_path("tests/data/gguf/dummy.gguf", 0, &g, &err), 0);
    assert_int_equal(gguf_get_u64(g, "absent", 1, 2, 5, &u, &err),
                     0); /* the default is not held to the range */
    assert_int_equal(u, 5);
    assert_int_equal(gguf_get_u64(g, "some.parameter.string", 0, 9, 0, &u, &err), -E_FORMAT);
    assert_string_equal(
        err.msg, "metadata key 'some.parameter.string' is of type string; an integer is needed");
    assert_int_equal(gguf_get_u64(g, "some.parameter.int8", 0, 9, 0, &u, &err), -E_FORMAT);
    assert_string_equal(err.msg,
                        "metadata key 'some.parameter.int8' is -19; it must be between 0 and 9");
    assert_int_equal(gguf_get_u64(g, "some.parameter.uint8", 0, 17, 0, &u, &err), -E_FORMAT);
    assert_int_equal(gguf_get_u64(g, "some.parameter.uint8", 19, 99, 0, &u, &err), -E_FORMAT);
    assert_int_equal(gguf_get_u64(g, "some.parameter.arr.i16", 0, 9, 0, &u, &err), -E_FORMAT);
    assert_int_equal(gguf_get_i64(g, "some.parameter.float32", 0, &i, &err), -E_FORMAT);
    assert_int_equal(gguf_get_f32(g, "some.parameter.int32", 0, &f, &err), -E_FORMAT);
    assert_int_equal(gguf_get_bool(g, "some.parameter.uint8", 0, &b, &err), -E_FORMAT);
    assert_int_equal(gguf_get_str(g, "some.parameter.bool", STR_LIT(""), &s, &err), -E_FORMAT);
    assert_int_equal(u, 5);
    gguf_close(g);
}

static void files_made_by_others(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        int rc;
        const char *says;
    } cases[] = {
        {"tests/data/gguf/gguf-v2-f32.gguf", 0, ""},
        {"tests/data/gguf/gguf-v3-q4-0.gguf", 0, ""},
        {"tests/data/gguf/gguf-unknown-type.gguf", -E_FORMAT,
         "tensor 'future.weight': its type 43 is unknown"},
        {"tests/data/gguf/gguf-unsupported-version.gguf", -E_UNSUPPORTED,
         "GGUF version 4 is not read"},
        {"tests/data/gguf/version1-head.gguf", -E_UNSUPPORTED, "GGUF version 1 is not read"},
        {"models/README.md", -E_FORMAT, "not a GGUF file; it begins with the bytes 23 20 54 68"},
        {"tests/data/gguf", -E_INVALID, "not a regular file"},
        {"/dev/zero", -E_INVALID, "not a regular file"},
        {"tests/data/gguf/none.gguf", -E_NOTFOUND, "No such file"},
        {"tests/data/gguf/dummy-00001-of-00002.gguf", 0, ""},
        {"tests/data/gguf/dummy-00002-of-00002.gguf", 0, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        int rc = gguf_open_path(cases[i].path, 0, &g, &err);
        if (rc != cases[i].rc || !strstr(err.msg, cases[i].says) ||
            (cases[i].rc && !strstr(err.msg, cases[i].path)))
            fail_msg("%s: %d: %s", cases[i].path, rc, err.msg);
        gguf_close(g);
    }
}

/* By path such things are refused before they are handed over; a descriptor may still be anything.
 */
static void descriptors_of_no_file_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *path, *says;
    } cases[] = {{"tests/data/gguf", "it is a directory"}, {"/dev/zero", "it is a device"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        int fd = open(cases[i].path, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(gguf_open(&fd, &cases[i].path, 1, 0, &g, &err), -E_FORMAT);
        assert_non_null(strstr(err.msg, cases[i].says));
        close(fd);
    }
}

static void quantisation_has_a_name(void **state)
{
    (void)state;
    static const struct {
        int file_type; /* -1: absent */
        uint32_t type;
        const char *name;
    } cases[] = {
        {-1, DTYPE_Q4_K, "Q4_K"},   {15, DTYPE_Q4_K, "Q4_K_M"},  {15 + 1024, DTYPE_Q5_0, "Q4_K_M"},
        {1, DTYPE_Q8_0, "Q8_0"},    {0, DTYPE_F32, "F32"},       {1, DTYPE_F16, "F16"},
        {15, DTYPE_F32, "F32"},     {99999, DTYPE_BF16, "BF16"}, {1, DTYPE_I32, "F16"},
        {-1, DTYPE_I32, "unknown"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        struct gguf_build b;
        build_init(&b);
        if (cases[i].file_type >= 0)
            build_kv_u32(&b, "general.file_type", (uint32_t)cases[i].file_type);
        build_tensor(&b, "a.weight", cases[i].type, 2, (const uint64_t[]){256, 3});
        build_tensor(&b, "norm.weight", DTYPE_F32, 1, (const uint64_t[]){100000});
        assert_int_equal(build_open(&b, 0, &g, &err), 0);
        assert_string_equal(gguf_quant_name(g), cases[i].name);
        assert_int_equal(gguf_n_params(g), 256 * 3 + 100000);
        gguf_close(g);
        build_release(&b);
    }
}

static struct gguf *odd_values_open(struct gguf_build *b)
{
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    build_init(b);
    build_kv_str(b, "bad\xff utf8 \xed\xa0\x80",
                 "a\"b\\c\n\x1b[2J\xc2\x9b\xe2\x82\xac\xf0\x9f\x98\x80\xf5\xc3");
    build_kv_f32(b, "nan", NAN);
    build_kv_f32(b, "low", -INFINITY);
    build_kv_f32(b, "tenth", 0.1f);
    build_kv_int(b, "big", GGUF_U64, -1);
    build_kv_int(b, "small", GGUF_I64, INT64_MIN);
    build_kv_array(b, "long", GGUF_I16, 17);
    for (int i = 0; i < 17; i++)
        assert_int_equal(buf_append(&b->values, (const int16_t[]){(int16_t)-i}, 2), 0);
    build_kv_strs(b, "none", 0, NULL);
    build_tensor(b, "t", DTYPE_Q8_0, 2, (const uint64_t[]){64, 3});
    assert_int_equal(build_open(b, 0, &g, &err), 0);
    return g;
}

static json_t *show_parse(const struct gguf *g, unsigned flags)
{
    struct err err = ERR_INIT;
    struct buf out;
    json_error_t why;
    buf_init(&out, 1 << 20);
    assert_int_equal(gguf_show_json(g, flags, &out, &err), 0);
    for (size_t i = 0; i < out.len; i++)
        assert_true((unsigned char)out.data[i] >= 0x20 || out.data[i] == '\n');
    assert_null(strstr(buf_str(&out), "\xc2\x9b"));
    json_t *j = json_loads(buf_str(&out), JSON_REJECT_DUPLICATES, &why);
    if (!j)
        fail_msg("%s", why.text);
    buf_release(&out);
    return j;
}

static void show_is_json_whatever_the_file_holds(void **state)
{
    (void)state;
    struct gguf_build b;
    struct gguf *g = odd_values_open(&b);
    json_t *j = show_parse(g, 0), *meta = json_object_get(j, "metadata"), *t;
    assert_string_equal(
        json_string_value(
            json_object_get(meta, "bad\xef\xbf\xbd utf8 \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd")),
        "a\"b\\c\n\x1b[2J\xc2\x9b\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd");
    assert_string_equal(json_string_value(json_object_get(meta, "nan")), "NaN");
    assert_string_equal(json_string_value(json_object_get(meta, "low")), "-Infinity");
    assert_true((float)json_number_value(json_object_get(meta, "tenth")) == 0.1f);
    assert_string_equal(json_string_value(json_object_get(meta, "big")), "18446744073709551615");
    assert_true(json_integer_value(json_object_get(meta, "small")) == INT64_MIN);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(meta, "long"), "length")),
                     17);
    assert_int_equal(json_array_size(json_object_get(json_object_get(meta, "long"), "first")), 16);
    assert_int_equal(json_array_size(json_object_get(meta, "none")), 0);
    t = json_array_get(json_object_get(j, "tensors"), 0);
    assert_string_equal(json_string_value(json_object_get(t, "name")), "t");
    assert_string_equal(json_string_value(json_object_get(t, "type")), "Q8_0");
    assert_int_equal(json_integer_value(json_object_get(t, "bytes")), 204);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(t, "shape"), 1)), 3);
    json_decref(j);
    j = show_parse(g, GGUF_SHOW_ALL);
    t = json_object_get(json_object_get(j, "metadata"), "long");
    assert_int_equal(json_integer_value(json_array_get(t, 16)), -16);
    json_decref(j);
    /* A reader that gives too little room is told. */
    struct err err = ERR_INIT;
    struct buf small;
    buf_init(&small, 100);
    assert_int_equal(gguf_show_json(g, 0, &small, &err), -E_LIMIT);
    buf_release(&small);
    gguf_close(g);
    build_release(&b);
}

/* Every allocation of opening and of reading hyper-parameters fails once; nothing leaks (ASan),
 * nothing crashes. */
static void running_out_of_memory_is_an_error(void **state)
{
    (void)state;
    int fds[2] = {open("tests/data/gguf/dummy-00001-of-00002.gguf", O_RDONLY),
                  open("tests/data/gguf/dummy-00002-of-00002.gguf", O_RDONLY)};
    long n_fail = 0;
    for (long n = 0;; n++) {
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        mem_fault_after(n);
        int rc = gguf_open(fds, NULL, 2, 0, &g, &err);
        mem_fault_after(-1);
        gguf_close(g);
        if (rc == 0)
            break;
        assert_int_equal(rc, -E_NOMEM);
        n_fail++;
    }
    assert_true(n_fail >= 8);
    close(fds[0]);
    close(fds[1]);
    for (long n = 0;; n++) {
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        struct hparams h = {0};
        mem_fault_after(n);
        int rc = gguf_open_path("models/stories.gguf", 0, &g, &err);
        if (rc == 0)
            rc = hparams_from_gguf(g, &h, &err);
        mem_fault_after(-1);
        hparams_release(&h);
        gguf_close(g);
        if (rc == 0)
            break;
        assert_int_equal(rc, -E_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_have_their_sizes),
        cmocka_unit_test(the_shipped_model_reads),
        cmocka_unit_test(every_type_of_value_reads),
        cmocka_unit_test(typed_reads_refuse_other_types),
        cmocka_unit_test(files_made_by_others),
        cmocka_unit_test(descriptors_of_no_file_are_refused),
        cmocka_unit_test(quantisation_has_a_name),
        cmocka_unit_test(show_is_json_whatever_the_file_holds),
        cmocka_unit_test(running_out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
