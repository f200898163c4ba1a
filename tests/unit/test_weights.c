/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors and DDUF headers: read whole or refused with what is wrong; facts of models; and the
 * short-lived worker that tells them, which this program plays itself. */
#include "tests/support/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/ipc/probe.h"
#include "tests/support/fds.h"
#include "tests/support/gguf_build.h"
#include "worker/model/dduf.h"
#include "worker/model/facts.h"
#include "worker/model/safetensors.h"
#include "worker/model/weights_show.h"
#include "worker/serve/worker.h"

/* ---- safetensors ---- */

/* The file: header and then n_data bytes. */
static int st_fd(const char *header, size_t n_header, size_t n_data, uint64_t said)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 8; i++)
        buf_append_char(&b, (char)(said >> (8 * i)));
    buf_append(&b, header, n_header);
    for (size_t i = 0; i < n_data; i++)
        buf_append_char(&b, (char)i);
    int fd = build_fd(b.data, b.len);
    buf_release(&b);
    return fd;
}

static int st_open(int fd, struct safetensors **s, struct err *err)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    int rc = safetensors_open(fd, 0, (uint64_t)st.st_size, s, err);
    close(fd);
    return rc;
}

static int file_fd(const char *path)
{
    struct buf b;
    build_read(path, &b);
    int fd = build_fd(b.data, b.len);
    buf_release(&b);
    return fd;
}

static void test_safetensors(void **state)
{
    (void)state;
    struct safetensors *s;
    struct err err = ERR_INIT;
    if (st_open(file_fd("tests/data/safetensors/overall.safetensors"), &s, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(safetensors_n_tensors(s), 9);
    const struct safetensors_tensor *t = safetensors_find(s, "d");
    assert_non_null(t);
    assert_string_equal(t->dtype, "F64");
    assert_int_equal(t->n_bytes, 48);
    assert_int_equal(t->dims[0], 6);
    assert_string_equal(safetensors_dtype_name(s), "mixed");
    assert_int_equal(safetensors_n_params(s), 54);
    assert_string_equal(json_string_value(json_object_get(safetensors_metadata(s), "test")), "a");
    assert_int_equal(safetensors_tensor_at(s, 0)->offset, 8 + 526);
    assert_null(safetensors_find(s, "x"));
    safetensors_close(s);
    assert_int_equal(
        st_open(file_fd("tests/data/safetensors/tensor-3d-float32.safetensors"), &s, &err), 0);
    assert_string_equal(safetensors_dtype_name(s), "F32");
    assert_int_equal(safetensors_n_params(s), 12);
    safetensors_close(s);
    assert_int_equal(st_open(file_fd("tests/data/safetensors/two-tensors.safetensors"), &s, &err),
                     0);
    safetensors_close(s);
    assert_int_equal(st_open(file_fd("tests/data/safetensors/header-only.safetensors"), &s, &err),
                     0);
    assert_string_equal(safetensors_dtype_name(s), "unknown");
    safetensors_close(s);
    /* no elements, half-byte elements */
    static const char odd[] = "{\"a\":{\"dtype\":\"F4\",\"shape\":[3,2],\"data_offsets\":[0,3]},"
                              "\"z\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[0,0]},"
                              "\"s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[3,4]}}  ";
    assert_int_equal(st_open(st_fd(odd, strlen(odd), 4, strlen(odd)), &s, &err), 0);
    assert_int_equal(safetensors_n_params(s), 7);
    safetensors_close(s);
}

#define T(name, dtype, shape, offsets)                                                             \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_hostile_safetensors(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t n_data;
        int code;
        const char *what;
    } cases[] = {
        {"{" T("a", "U8", "[2]", "[0,2]") "," T("a", "U8", "[2]", "[2,4]") "}", 4, E_FORMAT,
         "duplicate"},
        {"{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[1,3]") "}", 3, E_FORMAT,
         "overlap"},
        {"{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[3,5]") "}", 5, E_FORMAT,
         "hole"},
        {"{" T("a", "U8", "[2]", "[0,2]") "}", 9, E_FORMAT, "7 bytes follow"},
        {"{" T("a", "U8", "[2]", "[0,2]") "}", 1, E_FORMAT, "not inside"},
        {"{" T("a", "U8", "[2]", "[2,0]") "}", 2, E_FORMAT, "not inside"},
        {"{" T("a", "U8", "[3]", "[0,2]") "}", 2, E_FORMAT, "do not take"},
        {"{" T("a", "F4", "[3]", "[0,2]") "}", 2, E_FORMAT, "do not take"},
        {"{" T("a", "U8", "[-2]", "[0,2]") "}", 2, E_FORMAT, "whole number"},
        {"{" T("a", "U8", "[2.0]", "[0,2]") "}", 2, E_FORMAT, "whole number"},
        {"{" T("a", "U8", "2", "[0,2]") "}", 2, E_FORMAT, "no array"},
        {"{" T("a", "F64", "[4294967296,4294967296,2]", "[0,2]") "}", 2, E_FORMAT, "overflow"},
        {"{" T("a", "F64", "[4294967296,1073741824]", "[0,2]") "}", 2, E_FORMAT, "do not take"},
        {"{" T("a", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, E_LIMIT, "dimensions"},
        {"{" T("a", "Q4_K", "[2]", "[0,2]") "}", 2, E_FORMAT, "Q4_K"},
        {"{" T("a", "U8", "[2]", "[0]") "}", 2, E_FORMAT, "data_offsets"},
        {"{\"a\":[1]}", 0, E_FORMAT, "array"},
        {"{\"a\":{\"shape\":[1]}}", 0, E_FORMAT, "dtype"},
        {"{\"__metadata__\":{\"a\":1}}", 0, E_FORMAT, "strings"},
        {"{\"__metadata__\":\"a\"}", 0, E_FORMAT, "instead of an object"},
        {"{\"a\":NaN}", 0, E_FORMAT, "JSON"},
        {"{\"\xff\":1}", 0, E_FORMAT, "JSON"},
        {"[{}]", 0, E_FORMAT, "'{'"},
        {" {}", 0, E_FORMAT, "'{'"},
        {"{}x", 0, E_FORMAT, "JSON"},
    };
    struct safetensors *s;
    struct err err = ERR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = strlen(cases[i].header);
        int rc = st_open(st_fd(cases[i].header, n, cases[i].n_data, n), &s, &err);
        if (rc != -cases[i].code || !strstr(err.msg, cases[i].what))
            fail_msg("case %zu: %d %s", i, rc, err.msg);
    }
    static const uint64_t lengths[] = {0, 1, 7, 1ull << 63, UINT64_MAX, 101ull << 20, 3};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
        assert_int_equal(st_open(st_fd("{}", 2, 0, lengths[i]), &s, &err), -E_FORMAT);
    assert_int_equal(st_open(build_fd("1234567", 7), &s, &err), -E_FORMAT);
    assert_int_equal(st_open(build_fd("", 0), &s, &err), -E_FORMAT);
    /* a header that is there and too large: never read */
    int fd = st_fd("{", 1, 0, 200ull << 20);
    assert_int_equal(ftruncate(fd, 300ll << 20), 0);
    assert_int_equal(st_open(fd, &s, &err), -E_LIMIT);
    char *deep = mem_alloc(200001);
    memset(deep, '[', 200000);
    memcpy(deep, "{\"a\":", 5);
    assert_int_equal(st_open(st_fd(deep, 200000, 0, 200000), &s, &err), -E_LIMIT);
    mem_free(deep);
    static const char *const vectors[] = {"gap", "unknown-dtype"};
    for (size_t i = 0; i < 2; i++) {
        char path[80];
        snprintf(path, sizeof(path), "tests/data/safetensors/%s.safetensors", vectors[i]);
        assert_int_equal(st_open(file_fd(path), &s, &err), -E_FORMAT);
    }
}

/* ---- DDUF ---- */

struct zip_entry {
    const char *path, *data;
    uint32_t method, flags, mode; /* mode: of Unix, 0 none */
    const char *local_path;       /* another one in the local header */
    int32_t size_lie, offset_lie; /* added in the directory */
};

static void put_le(struct buf *b, uint64_t v, int n)
{
    for (int i = 0; i < n; i++)
        buf_append_char(b, (char)(v >> (8 * i)));
}

static void zip_make(const struct zip_entry *e, size_t n, struct buf *out)
{
    struct buf dir;
    buf_init(out, 1 << 20);
    buf_init(&dir, 1 << 20);
    for (size_t i = 0; i < n; i++) {
        size_t at = out->len, len = strlen(e[i].data);
        const char *local = e[i].local_path ? e[i].local_path : e[i].path;
        buf_append(out, "PK\3\4\12\0", 6);
        put_le(out, e[i].flags, 2);
        put_le(out, e[i].method, 2);
        put_le(out, 0, 8); /* time, CRC */
        put_le(out, len, 4);
        put_le(out, len, 4);
        put_le(out, strlen(local), 2);
        put_le(out, 0, 2);
        buf_append_str(out, local);
        buf_append_str(out, e[i].data);
        buf_append(&dir, "PK\1\2\12\3\12\0", 8);
        put_le(&dir, e[i].flags, 2);
        put_le(&dir, e[i].method, 2);
        put_le(&dir, 0, 8);
        put_le(&dir, len + (size_t)e[i].size_lie, 4);
        put_le(&dir, len + (size_t)e[i].size_lie, 4);
        put_le(&dir, strlen(e[i].path), 2);
        put_le(&dir, 0, 8); /* extra, comment, disk, attributes */
        put_le(&dir, (uint64_t)e[i].mode << 16, 4);
        put_le(&dir, at + (size_t)e[i].offset_lie, 4);
        buf_append_str(&dir, e[i].path);
    }
    size_t at = out->len;
    buf_append(out, dir.data, dir.len);
    buf_append(out, "PK\5\6\0\0\0\0", 8);
    put_le(out, n, 2);
    put_le(out, n, 2);
    put_le(out, dir.len, 4);
    put_le(out, at, 4);
    put_le(out, 0, 2);
    buf_release(&dir);
}

static int zip_open(const void *p, size_t n, struct dduf **d, struct err *err)
{
    int fd = build_fd(p, n);
    int rc = dduf_open(fd, n, d, err);
    close(fd);
    return rc;
}

#define INDEX "{\"_class_name\":\"FluxPipeline\",\"vae\":[\"diffusers\",\"AutoencoderKL\"]}"
static const struct zip_entry good[] = {{.path = "model_index.json", .data = INDEX},
                                        {.path = "vae/config.json", .data = "{}"},
                                        {.path = "vae/x.txt", .data = "", .mode = 0100644}};

static void test_dduf(void **state)
{
    (void)state;
    struct buf b;
    struct dduf *d;
    struct err err = ERR_INIT;
    zip_make(good, ARRAY_LEN(good), &b);
    if (zip_open(b.data, b.len, &d, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(dduf_n_entries(d), 3);
    const struct dduf_entry *e = dduf_entry_at(d, 0);
    assert_string_equal(e->path, "model_index.json");
    assert_memory_equal(b.data + e->offset, INDEX, e->n_bytes);
    dduf_close(d);
    /* cut anywhere it is no archive */
    for (size_t n = 0; n < b.len; n++)
        assert_true(zip_open(b.data, n, &d, &err) < 0);
    buf_release(&b);
    /* a comment behind is allowed */
    zip_make(good, ARRAY_LEN(good), &b);
    b.data[b.len - 2] = 3;
    buf_append_str(&b, "hey");
    assert_int_equal(zip_open(b.data, b.len, &d, &err), 0);
    dduf_close(d);
    buf_release(&b);
}

static void test_hostile_dduf(void **state)
{
    (void)state;
    static const struct {
        struct zip_entry e;
        int code;
        const char *what;
    } cases[] = {
        {{.path = "vae/a.txt", .data = "x", .method = 8}, E_UNSUPPORTED, "compressed"},
        {{.path = "vae/a.txt", .data = "x", .flags = 1}, E_UNSUPPORTED, "encrypted"},
        {{.path = "../a.txt", .data = "x"}, E_FORMAT, "path"},
        {{.path = "/a.txt", .data = "x"}, E_FORMAT, "path"},
        {{.path = "a/b/c.txt", .data = "x"}, E_FORMAT, "path"},
        {{.path = "vae/", .data = ""}, E_FORMAT, "path"},
        {{.path = "a\\b.txt", .data = "x"}, E_FORMAT, "path"},
        {{.path = "vae/code.py", .data = "x"}, E_FORMAT, "alone"},
        {{.path = "vae/w.bin", .data = "x"}, E_FORMAT, "alone"},
        {{.path = "vae/config.json", .data = "{}"}, E_FORMAT, "twice"},
        {{.path = "vae/l.txt", .data = "x", .mode = 0120777}, E_FORMAT, "link"},
        {{.path = "vae/a.txt", .data = "x", .local_path = "vae/b.txt"}, E_FORMAT, "different"},
        {{.path = "vae/a.txt", .data = "xyz", .size_lie = 1}, E_FORMAT, "different"},
        {{.path = "vae/a.txt", .data = "xyz", .offset_lie = 1}, E_FORMAT, "different"},
        {{.path = "vae/a.txt", .data = "xyz", .offset_lie = 1 << 30}, E_FORMAT, "outside"},
        {{.path = "unet/config.json", .data = "{}"}, E_FORMAT, "does not name"},
        {{.path = "_class_name/a.txt", .data = "x"}, E_FORMAT, "none of the configs"},
    };
    struct dduf *d;
    struct err err = ERR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct zip_entry e[4];
        struct buf b;
        memcpy(e, good, sizeof(good));
        e[3] = cases[i].e;
        zip_make(e, 4, &b);
        int rc = zip_open(b.data, b.len, &d, &err);
        if (rc != -cases[i].code || !strstr(err.msg, cases[i].what))
            fail_msg("case %zu: %d %s", i, rc, err.msg);
        buf_release(&b);
    }
    struct buf b;
    zip_make(good + 1, 2, &b); /* no model_index.json */
    assert_int_equal(zip_open(b.data, b.len, &d, &err), -E_FORMAT);
    assert_non_null(strstr(err.msg, "model_index.json"));
    buf_release(&b);
    zip_make(good, 3, &b); /* one entry said to be where another is */
    size_t n = b.len - 22 - 46 - strlen("vae/x.txt"), second = 46 + strlen("vae/config.json");
    memcpy(b.data + n + 42, b.data + n - second + 42, 4);
    assert_int_equal(zip_open(b.data, b.len, &d, &err), -E_FORMAT);
    buf_release(&b);
    zip_make(good, 0, &b);
    assert_int_equal(zip_open(b.data, b.len, &d, &err), -E_FORMAT);
    buf_release(&b);
}

/* ---- facts ---- */

static int facts(const char *const *names, const int *fds, uint32_t n, struct buf *out,
                 struct err *err)
{
    struct facts_file files[8];
    for (uint32_t i = 0; i < n; i++)
        files[i] = (struct facts_file){fds[i], names[i]};
    buf_init(out, LIMIT_FACTS_BYTES);
    int rc = facts_read(files, n, out, err);
    return rc;
}

static int st_of(const char *header, size_t n_data)
{
    return st_fd(header, strlen(header), n_data, strlen(header));
}

static int text_fd(const char *s)
{
    return build_fd(s, strlen(s));
}

static void test_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"m-1.safetensors", "m-2.safetensors", "config.json",
                                        "m.safetensors.index.json"};
    static const struct {
        const char *second, *config, *index;
        int code;
        const char *what; /* of the error, or of the facts */
    } cases[] = {
        {"{\"__metadata__\":{\"architecture\":\"X\",\"k\":\"v\"}," T("b", "BF16", "[2]",
                                                                     "[0,4]") "}",
         "{\"model_type\":\"llama\",\"max_position_embeddings\":2048}",
         "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}", 0,
         "{\"format\":\"safetensors\",\"architecture\":\"X\",\"quantization\":\"BF16\","
         "\"parameters\":4,\"bytes\":BYTES,\"context_size\":2048,\"metadata\":{\"architecture\":"
         "\"X\",\"k\":\"v\",\"tensor_count\":\"2\"}}"},
        {"{" T("b", "U8", "[4]", "[0,4]") "}",
         "{\"model_type\":\"gemma3\",\"text_config\":{\"max_position_embeddings\":99}}", NULL, 0,
         "\"architecture\":\"gemma3\",\"quantization\":\"mixed\",\"parameters\":6"},
        {"{" T("a", "U8", "[4]", "[0,4]") "}", "{}", NULL, E_FORMAT, "is both in"},
        {"{" T("b", "U8", "[4]", "[0,4]") "}", "[]", NULL, E_FORMAT, "config.json"},
        {"{" T("b", "U8", "[4]", "[0,4]") "}", "{}", "{}", E_FORMAT, "weight_map"},
        {"{" T("b", "U8", "[4]", "[0,4]") "}", "{}", "{\"weight_map\":{\"a\":\"../m\"}}", E_FORMAT,
         "outside"},
        {"{" T("b", "U8", "[4]", "[0,4]") "}", "{}", "{\"weight_map\":{\"a\":\"m-3.safetensors\"}}",
         E_NOTFOUND, "m-3.safetensors"},
        {"{" T("b", "U8", "[4]", "[0,4]") "}", "{}", "{\"weight_map\":{\"a\":\"m-2.safetensors\"}}",
         E_FORMAT, "is not in"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out;
        struct err err = ERR_INIT;
        const int fds[] = {st_of("{" T("a", "BF16", "[1,2]", "[0,4]") "}", 4),
                           st_of(cases[i].second, 4), text_fd(cases[i].config),
                           cases[i].index ? text_fd(cases[i].index) : -1};
        int rc = facts(names, fds, cases[i].index ? 4 : 3, &out, &err);
        const char *said = rc < 0 ? err.msg : buf_str(&out);
        char want[512], bytes[24];
        snprintf(bytes, sizeof(bytes), "%zu",
                 24 + strlen("{" T("a", "BF16", "[1,2]", "[0,4]") "}") + strlen(cases[i].second));
        const char *hole = strstr(cases[i].what, "BYTES");
        if (hole)
            snprintf(want, sizeof(want), "%.*s%s%s", (int)(hole - cases[i].what), cases[i].what,
                     bytes, hole + 5);
        else
            snprintf(want, sizeof(want), "%s", cases[i].what);
        if (rc != -cases[i].code || !strstr(said, want))
            fail_msg("case %zu: %d %s\nnot %s", i, rc, said, want);
        for (int k = 0; k < 4; k++)
            close(fds[k]);
        buf_release(&out);
    }
}

static void test_gguf_facts(void **state)
{
    (void)state;
    static const char *const name = "dummy.gguf";
    static const char *const parts[] = {"a-00001-of-00002.gguf", "a-00002-of-00002.gguf"};
    struct buf out;
    struct err err = ERR_INIT;
    int fd = file_fd("tests/data/gguf/dummy.gguf");
    if (facts(&name, &fd, 1, &out, &err) < 0)
        fail_msg("%s", err.msg);
    assert_non_null(strstr(
        buf_str(&out),
        "{\"format\":\"gguf\",\"architecture\":\"\",\"quantization\":\"F32\",\"parameters\":183,"));
    assert_non_null(strstr(buf_str(&out), "\"some.parameter.arr.str\":\"hello, world, !\""));
    assert_non_null(strstr(buf_str(&out), "\"some.parameter.arr.f32\":\"3.145, 2.718, 1.414\""));
    assert_non_null(strstr(buf_str(&out), "\"some.parameter.int64\":\"-1311768467463790321\""));
    close(fd);
    buf_release(&out);
    int fds[] = {file_fd("tests/data/gguf/dummy-00001-of-00002.gguf"),
                 file_fd("tests/data/gguf/dummy-00002-of-00002.gguf")};
    assert_int_equal(facts(parts, fds, 2, &out, &err), 0);
    buf_release(&out);
    assert_int_equal(facts(parts, fds, 1, &out, &err), -E_FORMAT);
    buf_release(&out);
    static const char *const both[] = {"a.gguf", "a.safetensors"};
    assert_int_equal(facts(both, fds, 2, &out, &err), -E_UNSUPPORTED);
    buf_release(&out);
    close(fds[0]);
    close(fds[1]);
}

static void test_show(void **state)
{
    (void)state;
    struct buf out, b;
    struct err err = ERR_INIT;
    buf_init(&out, 1 << 20);
    int fd = file_fd("tests/data/safetensors/overall.safetensors");
    assert_true(weights_show_knows("x.SAFETENSORS") && !weights_show_knows("x.gguf"));
    assert_int_equal(weights_show_json(fd, "o.safetensors", &out, &err), 0);
    assert_non_null(strstr(buf_str(&out), "{\"name\": \"d\", \"type\": \"F64\", \"shape\": [6]"));
    close(fd);
    buf_clear(&out);
    zip_make(good, ARRAY_LEN(good), &b);
    fd = build_fd(b.data, b.len);
    assert_int_equal(weights_show_json(fd, "o.dduf", &out, &err), 0);
    assert_non_null(strstr(buf_str(&out), "\"_class_name\": \"FluxPipeline\""));
    buf_clear(&out);
    assert_int_equal(weights_show_json(fd, "o.safetensors", &out, &err), -E_FORMAT);
    assert_non_null(strstr(err.msg, "o.safetensors"));
    close(fd);
    buf_release(&b);
    buf_release(&out);
}

/* ---- the probe ---- */

static void test_probe(void **state)
{
    (void)state;
    size_t before = fds_count();
    struct arena a;
    struct probe_facts f;
    struct err err = ERR_INIT;
    arena_init(&a, 16 << 20);
    struct gguf_build g;
    struct buf model;
    build_init(&g);
    build_llama(&g);
    build_file(&g, &model);
    struct probe_file files[] = {{build_fd(model.data, model.len), "dummy.gguf"},
                                 {text_fd("license"), "LICENSE"}};
    if (probe_run(files, 2, &a, &f, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(f.format, "gguf");
    assert_string_equal(f.architecture, "llama");
    assert_true(f.n_metadata > 3 && f.weight_bytes == model.len);
    close(files[0].fd);
    buf_release(&model);
    build_release(&g);
    /* what is no model, what is not even a file, what nobody reads */
    files[0].fd = text_fd("#!/bin/sh");
    assert_int_equal(probe_run(files, 1, &a, &f, &err), -E_FORMAT);
    assert_non_null(strstr(err.msg, "dummy.gguf"));
    close(files[0].fd);
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    files[0] = (struct probe_file){pipe_fds[0], "x.safetensors"};
    assert_int_equal(probe_run(files, 1, &a, &f, &err), -E_INVALID);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    assert_int_equal(probe_run(files + 1, 1, &a, &f, &err), -E_UNSUPPORTED);
    close(files[1].fd);
    /* a descriptor for writing is of no use to it, and no harm */
    struct buf b;
    zip_make(good, ARRAY_LEN(good), &b);
    files[0] = (struct probe_file){build_fd(b.data, b.len), "dir/flux.dduf"};
    if (probe_run(files, 1, &a, &f, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(f.format, "dduf");
    assert_int_equal(f.n_metadata, 3);
    close(files[0].fd);
    buf_release(&b);
    arena_release(&a);
    assert_int_equal(fds_count(), before);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return worker_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safetensors), cmocka_unit_test(test_hostile_safetensors),
        cmocka_unit_test(test_dduf),        cmocka_unit_test(test_hostile_dduf),
        cmocka_unit_test(test_folder),      cmocka_unit_test(test_gguf_facts),
        cmocka_unit_test(test_show),        cmocka_unit_test(test_probe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
