/* SPDX-License-Identifier: Apache-2.0 */
/* Stored models: their facts and files, archives in layers unpacked once and collected with them,
 * models as tar streams in and out, and what hostile ones of all these do: nothing. */
#include "tests/support/cmocka_all.h"

#include <dirent.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "daemon/store/load.h"
#include "daemon/store/model.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/tar.h"
#include "lib/oci/package.h"
#include "lib/oci/sha256.h"
#include "lib/sys/file.h"

static char dir[64];
static struct store *store;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int begin(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    snprintf(dir, sizeof(dir), "%s/berth-model.XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    return mkdtemp(dir) && store_open(dir, &store, &err) == 0 ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    store_close(store);
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void digest_of(const void *p, size_t n, char ret[OCI_DIGEST_CHARS + 1])
{
    struct sha256 h;
    sha256_init(&h);
    sha256_add(&h, p, n);
    sha256_end(&h, ret);
}

static void put(const void *p, size_t n, char ret[OCI_DIGEST_CHARS + 1])
{
    struct err err = ERR_INIT;
    if (store_put(store, p, n, ret, &err) < 0)
        fail_msg("%s", err.msg);
}

/* How many files a folder of the store holds. */
static int count(const char *name)
{
    char path[128];
    int n = -2;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    DIR *d = opendir(path);
    for (assert_non_null(d); readdir(d); n++)
        ;
    closedir(d);
    return n;
}

struct layer {
    const char *media, *path, *bytes;
    size_t n;
};

/* A manifest of these layers, which are put into the store, as text. */
static void manifest_make(const char *config_media, const char *config_text,
                          const struct layer *layers, size_t n, struct buf *out)
{
    char digest[OCI_DIGEST_CHARS + 1];
    buf_init(out, 1 << 20);
    put(config_text, strlen(config_text), digest);
    buf_printf(out,
               "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
               "\"config\":{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[",
               config_media, digest, strlen(config_text));
    for (size_t i = 0; i < n; i++) {
        size_t len = layers[i].n ? layers[i].n : strlen(layers[i].bytes);
        put(layers[i].bytes, len, digest);
        buf_printf(out, "%s{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu", i ? "," : "",
                   layers[i].media, digest, len);
        if (layers[i].path)
            buf_printf(out, ",\"annotations\":{\"org.cncf.model.filepath\":\"%s\"}",
                       layers[i].path);
        buf_append_str(out, "}");
    }
    buf_append_str(out, "]}");
}

static void model_make(const char *config_media, const char *config_text,
                       const struct layer *layers, size_t n, const char *name,
                       char ret[OCI_DIGEST_CHARS + 1])
{
    struct buf text;
    struct err err = ERR_INIT;
    manifest_make(config_media, config_text, layers, n, &text);
    put(text.data, text.len, ret);
    buf_release(&text);
    if (store_tag(store, name, ret, &err) < 0)
        fail_msg("%s", err.msg);
}

static void files_are(struct store_model *m, const char *want)
{
    struct buf text;
    struct err err = ERR_INIT;
    buf_init(&text, 1 << 16);
    if (store_model_files(store, m, &err) < 0)
        fail_msg("%s", err.msg);
    for (uint32_t i = 0; i < m->n_files; i++)
        buf_printf(&text, "%s:%d:%llu ", m->files[i].path, m->files[i].role,
                   (unsigned long long)m->files[i].size);
    assert_string_equal(buf_str(&text), want);
    buf_release(&text);
}

#define AI   "application/vnd.docker.ai."
#define CNCF "application/vnd.cncf.model."
#define V01  AI "model.config.v0.1+json"
#define V02  AI "model.config.v0.2+json"

static void test_docker(void **state)
{
    (void)state;
    static const struct layer layers[] = {
        {AI "license", "LICENSE", "free", 0},
        {AI "gguf.v3", "x-00001-of-00002.gguf", "first", 0},
        {AI "gguf.v3", "x-00002-of-00002.gguf", "second", 0},
        {AI "mmproj", NULL, "eyes", 0},
        {AI "chat.template.jinja", NULL, "{{ hi }}", 0},
        {AI "license", "NOTICE", "also", 0},
        {AI "license", "NOTICE", "and so", 0},
    };
    char digest[OCI_DIGEST_CHARS + 1], found[OCI_DIGEST_CHARS + 1];
    struct store_model m;
    struct store_opened o;
    struct buf name;
    struct err err = ERR_INIT;
    model_make(V01, "{\"config\":{\"format\":\"gguf\",\"context_size\":77}}", layers,
               ARRAY_LEN(layers), "docker.io/ai/x:latest", digest);
    assert_int_equal(store_tag(store, "docker.io/ai/a:q4", digest, &err), 0);
    assert_int_equal(store_model_read(store, digest, &m, &err), 0);
    assert_int_equal(m.n_names, 2);
    assert_string_equal(m.names[0], "docker.io/ai/a:q4");
    assert_string_equal(m.format, "gguf");
    assert_int_equal(m.config.context_size, 77);
    assert_true(m.created_unix > 1700000000); /* when it came here */
    files_are(&m, "model-00001-of-00002.gguf:3:5 model-00002-of-00002.gguf:3:6 model.mmproj:7:4 "
                  "template.jinja:8:8 LICENSE:9:4 LICENSE-00002-of-00003:9:4 "
                  "LICENSE-00003-of-00003:9:6 ");
    assert_int_equal(store_model_open(store, &m, &o, &err), 0);
    assert_int_equal(o.files.n, 2);
    char bytes[8] = "";
    assert_int_equal(read(o.files.fds[1], bytes, 8), 6);
    assert_string_equal(bytes, "second");
    assert_string_equal(buf_str(&o.chat_template), "{{ hi }}");
    assert_true(o.mmproj_fd >= 0);
    /* what is open is not collected */
    assert_int_equal(store_remove(store, digest, &err), 0);
    assert_int_equal(count("blobs/sha256"), 9);
    store_model_close(store, &o);
    uint64_t freed;
    assert_int_equal(store_collect(store, 0, &freed, &err), 0);
    assert_int_equal(count("blobs/sha256"), 0);
    store_model_release(&m);
    /* names */
    model_make(V01, "{}", layers, ARRAY_LEN(layers), "docker.io/ai/x:latest", digest);
    static const struct {
        const char *text;
        int rc;
    } names[] = {{"x", 0},           {"ai/x:latest", 0},     {"docker.io/ai/x", 0},     {"X", 0},
                 {"y", -E_NOTFOUND}, {"org/x", -E_NOTFOUND}, {"UPPER/x:", -E_NOTFOUND}, {"x:", 0},
                 {"", -E_INVALID}};
    buf_init(&name, 1024);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        buf_clear(&name);
        int rc = store_find(store, str_from(names[i].text), NULL, false, found, &name, &err);
        if (rc != names[i].rc)
            fail_msg("%s: %d %s", names[i].text, rc, err.msg);
        if (rc == 0)
            assert_string_equal(buf_str(&name), "docker.io/ai/x:latest");
    }
    buf_clear(&name);
    assert_int_equal(store_find(store, str_from(digest), NULL, false, found, &name, &err), 0);
    assert_string_equal(buf_str(&name), "");
    char shorter[16] = "";
    memcpy(shorter, digest + 7, 12);
    assert_int_equal(store_find(store, str_from(shorter), NULL, false, found, &name, &err), 0);
    assert_string_equal(found, digest);
    char pinned[160];
    snprintf(pinned, sizeof(pinned), "ai/other@%s", digest);
    assert_int_equal(store_find(store, str_from(pinned), NULL, false, found, &name, &err), 0);
    pinned[9 + 20] = pinned[9 + 20] == '0' ? '1' : '0';
    assert_int_equal(store_find(store, str_from(pinned), NULL, true, found, &name, &err),
                     -E_NOTFOUND);
    assert_int_equal(store_tag(store, "reg.example/team/big:q8", digest, &err), 0);
    buf_clear(&name);
    assert_int_equal(store_find(store, str_from("big"), NULL, false, found, &name, &err),
                     -E_NOTFOUND);
    assert_int_equal(store_find(store, str_from("big"), NULL, true, found, &name, &err), 0);
    assert_string_equal(buf_str(&name), "reg.example/team/big:q8");
    buf_release(&name);
}

/* ---- archives in layers ---- */

static void tar_add(struct buf *tar, const char *path, const char *data)
{
    struct err err = ERR_INIT;
    if (tar_put_file(tar, path, strlen(data), &err) < 0)
        fail_msg("%s", err.msg);
    buf_append_str(tar, data);
    tar_put_padding(tar, strlen(data));
}

static void gzip(const struct buf *in, struct buf *out)
{
    z_stream z = {.next_in = (unsigned char *)in->data, .avail_in = (unsigned)in->len};
    deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
    buf_reserve(out, in->len + 100);
    z.next_out = (unsigned char *)out->data;
    z.avail_out = (unsigned)in->len + 100;
    deflate(&z, Z_FINISH);
    out->len = in->len + 100 - z.avail_out;
    deflateEnd(&z);
}

static void test_archives(void **state)
{
    (void)state;
    struct buf tar, packed, other;
    char digest[OCI_DIGEST_CHARS + 1];
    struct store_model m;
    struct err err = ERR_INIT;
    buf_init(&tar, 1 << 20);
    buf_init(&packed, 1 << 20);
    buf_init(&other, 1 << 20);
    tar_add(&tar, "w/model-00002-of-00002.safetensors", "two");
    tar_add(&tar, "w/model-00001-of-00002.safetensors", "one");
    tar_put_end(&tar);
    gzip(&tar, &packed);
    tar_add(&other, "config.json", "{}");
    tar_add(&other, "LICENSE", "x");
    tar_put_end(&other);
    const struct layer layers[] = {
        {CNCF "weight.v1.tar+gzip", "w", packed.data, packed.len},
        {CNCF "weight.config.v1.tar", NULL, other.data, other.len},
        {CNCF "code.v1.tar", NULL, "not even looked at", 0},
        {CNCF "doc.v1.raw", "README.md", "doc", 0},
    };
    model_make(CNCF "config.v1+json", "{\"modelfs\":{}}", layers, ARRAY_LEN(layers), "a:b", digest);
    const char *want = "w/model-00001-of-00002.safetensors:4:3 w/model-00002-of-00002.safetensors:"
                       "4:3 config.json:11:2 LICENSE:9:1 README.md:9:3 ";
    int before = count("blobs/sha256");
    for (int pass = 0; pass < 3; pass++) {
        assert_int_equal(store_model_read(store, digest, &m, &err), 0);
        files_are(&m, want);
        assert_string_equal(m.format, "safetensors");
        assert_int_equal(count("unpacked"), 2);
        assert_int_equal(count("blobs/sha256"), before + 4);
        uint64_t freed;
        assert_int_equal(store_collect(store, 0, &freed, &err), 0);
        assert_int_equal(freed, 0);
        if (pass == 1) { /* a piece is lost: it is unpacked again */
            char path[256];
            snprintf(path, sizeof(path), "%s/blobs/sha256/%s", dir, m.files[1].digest + 7);
            assert_int_equal(unlink(path), 0);
        }
        store_model_release(&m);
    }
    /* across a restart */
    store_close(store);
    assert_int_equal(store_open(dir, &store, &err), 0);
    struct store_opened o;
    assert_int_equal(store_model_read(store, digest, &m, &err), 0);
    assert_int_equal(store_model_open(store, &m, &o, &err), 0);
    assert_int_equal(o.files.n, 3);
    store_model_close(store, &o);
    store_model_release(&m);
    bool deleted;
    assert_int_equal(store_untag(store, "a:b", &deleted, &err), 0);
    assert_true(deleted);
    assert_int_equal(count("blobs/sha256"), 0);
    assert_int_equal(count("unpacked"), 0);
    buf_release(&tar);
    buf_release(&packed);
    buf_release(&other);
}

/* An archive that cannot be taken leaves nothing behind; the model stays, and says why. */
static void test_hostile_archives(void **state)
{
    (void)state;
    static const struct {
        const char *path, *twice;
        int code;
        const char *what;
    } cases[] = {{"ok", "../../../etc/x", E_FORMAT, "inside"},
                 {"a.safetensors", "a.safetensors", E_FORMAT, "twice"},
                 {"x.safetensors", "y.gguf", E_UNSUPPORTED, "mixes"},
                 {"config.json", "x.txt", E_UNSUPPORTED, "no weights"},
                 {"README.md", "a.gguf", E_FORMAT, "called"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf tar;
        char digest[OCI_DIGEST_CHARS + 1];
        struct store_model m;
        struct err err = ERR_INIT;
        buf_init(&tar, 1 << 20);
        tar_add(&tar, cases[i].path, "data of the first");
        if (i == 0) { /* by hand, since our writer refuses it */
            tar_add(&tar, "____________", "");
            memcpy(tar.data + 1024, "../../../etc", 12);
            memset(tar.data + 1024 + 148, ' ', 8);
            unsigned sum = 0;
            for (int k = 0; k < 512; k++)
                sum += (unsigned char)tar.data[1024 + k];
            snprintf(tar.data + 1024 + 148, 7, "%06o", sum);
        } else {
            tar_add(&tar, cases[i].twice, "");
        }
        tar_put_end(&tar);
        const struct layer layers[] = {
            {CNCF "weight.v1.tar", NULL, tar.data, tar.len},
            {CNCF "doc.v1.raw", "README.md", "doc", 0},
        };
        model_make(CNCF "config.v1+json", "{\"modelfs\":{}}", layers, 2, "a:b", digest);
        assert_int_equal(store_model_read(store, digest, &m, &err), 0);
        int rc = store_model_files(store, &m, &err);
        if (rc != -cases[i].code || !strstr(err.msg, cases[i].what))
            fail_msg("case %zu: %d %s", i, rc, err.msg);
        if (rc == -E_FORMAT && i < 2) {
            assert_int_equal(count("blobs/sha256"), 4);
            assert_int_equal(count("unpacked"), 0);
        }
        assert_int_equal(count("ingest"), 0);
        store_model_release(&m);
        bool deleted;
        assert_int_equal(store_untag(store, "a:b", &deleted, &err), 0);
        assert_int_equal(count("blobs/sha256"), 0);
        buf_release(&tar);
    }
}

/* An archive of many files, some of the same bytes, that ends badly: what it takes to find that
 * out, in milliseconds of this thread's time. */
static double time_refusal(const struct buf *tar)
{
    const struct layer layers[] = {{CNCF "weight.v1.tar", NULL, tar->data, tar->len}};
    char digest[OCI_DIGEST_CHARS + 1];
    struct store_model m;
    struct timespec a, b;
    struct err err = ERR_INIT;
    model_make(CNCF "config.v1+json", "{\"modelfs\":{}}", layers, 1, "bad:v", digest);
    const int before = count("blobs/sha256");
    assert_int_equal(store_model_read(store, digest, &m, &err), 0);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    assert_int_equal(store_model_files(store, &m, &err), -E_FORMAT);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    assert_int_equal(count("blobs/sha256"), before);
    assert_int_equal(count("unpacked"), 0);
    store_model_release(&m);
    return (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
}

/* Every manifest is read to know what may go, once, and not for each of its files. */
static void test_hostile_archive_among_many(void **state)
{
    (void)state;
    const struct layer layers[] = {{CNCF "weight.v1.raw", "a.gguf", "weights", 0}};
    char digest[OCI_DIGEST_CHARS + 1], text[64], config[64];
    struct buf tar;
    buf_init(&tar, 4 << 20);
    for (unsigned i = 0; i < 300; i++) {
        snprintf(text, sizeof(text), "file%u.txt", i);
        snprintf(config, sizeof(config), "bytes of %u", i / 2);
        tar_add(&tar, text, config);
    }
    tar_add(&tar, "file0.txt", "");
    tar_put_end(&tar);
    const double few_ms = time_refusal(&tar);
    for (unsigned i = 0; i < 300; i++) {
        snprintf(config, sizeof(config), "{\"modelfs\":{},\"n\":%u}", i);
        snprintf(text, sizeof(text), "m:v%u", i);
        model_make(CNCF "config.v1+json", config, layers, 1, text, digest);
    }
    const double many_ms = time_refusal(&tar);
    printf("refused after %.1f ms alone, %.1f ms among 300 models\n", few_ms, many_ms);
    assert_true(many_ms < 8 * few_ms);
    buf_release(&tar);
}

/* ---- streams ---- */

static int load(const void *p, size_t n, size_t piece, char ret[OCI_DIGEST_CHARS + 1],
                struct err *err)
{
    struct store_load *l = store_load_begin(store);
    for (size_t at = 0; at < n; at += piece) {
        int rc = store_load_feed(l, (const char *)p + at, MIN_OF(piece, n - at), err);
        if (rc < 0) {
            store_load_abandon(l);
            return rc;
        }
    }
    return store_load_commit(l, ret, err);
}

static void export_all(const char *digest, size_t piece, struct buf *out)
{
    struct store_export *e;
    uint64_t total;
    struct err err = ERR_INIT;
    char bytes[4096];
    size_t n = 1;
    buf_init(out, 1 << 22);
    if (store_export_begin(store, digest, &e, &total, &err) < 0)
        fail_msg("%s", err.msg);
    while (n) {
        if (store_export_read(e, bytes, piece, &n, &err) < 0)
            fail_msg("%s", err.msg);
        buf_append(out, bytes, n);
    }
    store_export_end(e);
    assert_int_equal(out->len, total);
}

static void test_streams(void **state)
{
    (void)state;
    static const struct layer layers[] = {{AI "gguf.v3", "m.gguf", "GGUF is not looked at", 0},
                                          {AI "license", "LICENSE", "free", 0},
                                          {AI "license", "COPYING", "free", 0}};
    char digest[OCI_DIGEST_CHARS + 1], again[OCI_DIGEST_CHARS + 1];
    struct buf one, other;
    struct err err = ERR_INIT;
    model_make(V01, "{\"config\":{\"format\":\"gguf\"}}", layers, 3, "a:b", digest);
    export_all(digest, 4096, &one);
    export_all(digest, 7, &other);
    assert_int_equal(one.len, other.len);
    assert_memory_equal(one.data, other.data, one.len);
    buf_release(&other);
    for (size_t piece = 1; piece < 20000; piece *= 11) {
        assert_int_equal(store_remove(store, digest, &err), 0);
        assert_int_equal(count("blobs/sha256"), 0);
        if (load(one.data, one.len, piece, again, &err) < 0)
            fail_msg("%s", err.msg);
        assert_string_equal(again, digest);
        assert_int_equal(count("blobs/sha256"), 4);
    }
    /* what is there already is passed over */
    assert_int_equal(load(one.data, one.len, 1000, again, &err), 0);
    /* cut anywhere, nothing stays but what was there */
    assert_int_equal(store_remove(store, digest, &err), 0);
    for (size_t n = 0; n + 1024 < one.len; n += 97) {
        int rc = load(one.data, n, 512, again, &err);
        if (rc >= 0 || count("blobs/sha256") || count("ingest"))
            fail_msg("cut at %zu: %d, %d blobs", n, rc, count("blobs/sha256"));
    }
    /* any byte of a blob or its name changed: refused, and nothing stays */
    for (size_t at = 0; at + 1024 < one.len; at += 61) {
        one.data[at] ^= 1;
        int rc = load(one.data, one.len, 5000, again, &err);
        if (rc ==
            0) /* it was padding, or of the manifest: another model then, or an unused field */
            assert_int_equal(store_remove(store, again, &err), 0);
        if (count("blobs/sha256") || count("ingest"))
            fail_msg("changed at %zu: %d, %d blobs stay", at, rc, count("blobs/sha256"));
        one.data[at] ^= 1;
    }
    buf_release(&one);
}

/* Entries by hand: names and sizes that lie. */
static void test_hostile_streams(void **state)
{
    (void)state;
    struct buf text, tar;
    char blob[OCI_DIGEST_CHARS + 1], digest[OCI_DIGEST_CHARS + 1], path[128];
    struct err err = ERR_INIT;
    uint64_t freed;
    static const struct layer layers[] = {{AI "gguf.v3", "m.gguf", "weights", 0}};
    manifest_make(V01, "{}", layers, 1, &text);
    digest_of("weights", 7, blob);
    buf_init(&tar, 1 << 20);
    static const struct {
        const char *path, *data;
        int code;
        const char *what;
    } cases[] = {
        {"blobs/sha256/BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD", "abc",
         E_INVALID, "entry"},
        {"blobs/sha256/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a", "abc",
         E_INVALID, "entry"},
        {"blobs/sha256/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad/x", "abc",
         E_INVALID, "entry"},
        {"blobs/sha256/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "abd",
         E_FORMAT, "not taken"},
        {"manifest.json", "{}", E_FORMAT, "two files"},
        {"manifest.json/x", "", E_FORMAT, "not in the store"},
        {"other/file", "abc", E_FORMAT, "not in the store"},
        {"blobs/sha512/"
         "d302a5a946106425f12177a93f87c1b7d4ee8ad851937a6a59dc6e0b758fbed5ab10a116509f73165e2b29b4"
         "0e870f8c28a6a4f6c1ebfe9fa7d295ba7ff151c9",
         "abc", E_FORMAT, "not in the store"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(store_collect(store, 0, &freed, &err), 0);
        buf_clear(&tar);
        tar_add(&tar, "manifest.json", buf_str(&text));
        tar_add(&tar, cases[i].path, cases[i].data);
        tar_put_end(&tar);
        int rc = load(tar.data, tar.len, 300, digest, &err);
        if (rc != -cases[i].code || !strstr(err.msg, cases[i].what))
            fail_msg("case %zu: %d %s", i, rc, err.msg);
        assert_int_equal(count("blobs/sha256") + count("ingest"), 0);
    }
    /* no weights; not a model; no manifest at all */
    static const char *const manifests[] = {
        "{\"schemaVersion\":2,\"layers\":[]}", "[]", "",
        "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json"
        "\",\"digest\":"
        "\"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\",\"size\":3},"
        "\"layers\":[]}"};
    for (size_t i = 0; i < ARRAY_LEN(manifests); i++) {
        buf_clear(&tar);
        snprintf(path, sizeof(path), "blobs/sha256/%s", blob + 7);
        tar_add(&tar, path, "weights");
        tar_add(&tar, "manifest.json", manifests[i]);
        tar_put_end(&tar);
        assert_true(load(tar.data, tar.len, 300, digest, &err) < 0);
        assert_int_equal(count("blobs/sha256") + count("ingest"), 0);
    }
    /* Docker Model Runner's own test archive: read to its end, and it holds no model */
    buf_release(&tar);
    assert_int_equal(file_read_all("tests/data/docker-model/archive.tar", 1 << 20, &tar, &err), 0);
    assert_true(load(tar.data, tar.len, 512, digest, &err) < 0);
    assert_int_equal(count("blobs/sha256"), 0);
    buf_release(&tar);
    buf_release(&text);
}

/* ---- many at once, and ends at any moment ---- */

#define N_STREAMS 4

static struct buf streams[N_STREAMS];
static char stream_ids[N_STREAMS][OCI_DIGEST_CHARS + 1];

/* Models that share a layer; some of it in archives. */
static void streams_make(void)
{
    static char shared[40000];
    for (int i = 0; i < N_STREAMS; i++) {
        struct buf tar;
        char own[64];
        struct err err = ERR_INIT;
        snprintf(own, sizeof(own), "config number %d", i);
        memset(shared, 'x', sizeof(shared));
        buf_init(&tar, 1 << 20);
        tar_add(&tar, "config.json", own);
        tar_add(&tar, "tokenizer.json", "{}");
        tar_put_end(&tar);
        const struct layer layers[] = {
            {CNCF "weight.v1.raw", "model.safetensors", shared, sizeof(shared)},
            {CNCF "weight.config.v1.tar", NULL, tar.data, tar.len},
        };
        model_make(CNCF "config.v1+json", "{\"modelfs\":{}}", layers, 2, "a:b", stream_ids[i]);
        export_all(stream_ids[i], 4096, &streams[i]);
        assert_int_equal(store_remove(store, stream_ids[i], &err), 0);
        buf_release(&tar);
    }
}

static void streams_release(void)
{
    for (int i = 0; i < N_STREAMS; i++)
        buf_release(&streams[i]);
}

/* Loads, opens and removes; whatever comes of it must be one of these. */
static bool churn(unsigned seed, unsigned n)
{
    bool ok = true;
    for (unsigned k = 0; ok && k < n; k++) {
        char id[OCI_DIGEST_CHARS + 1];
        struct store_model m;
        struct store_opened o;
        struct err err = ERR_INIT;
        uint64_t freed;
        int i = (int)((seed * 7 + k * 3) % N_STREAMS);
        int rc = load(streams[i].data, streams[i].len, 3000, id, &err);
        ok = rc == 0 || rc == -E_NOTFOUND || rc == -E_BUSY; /* removed by others meanwhile */
        if (rc == 0 && store_model_read(store, id, &m, &err) == 0) {
            if (store_model_open(store, &m, &o, &err) == 0) {
                ok = o.files.n == 3;
                store_model_close(store, &o);
            }
            store_model_release(&m);
        } else if (rc == 0) {
            store_model_release(&m);
        }
        if (k % 3 == seed % 3)
            rc = store_remove(store, id, &err);
        if (k % 4 == 1)
            ok = ok && store_collect(store, 0, &freed, &err) == 0;
        if (!ok)
            fprintf(stderr, "%d %s\n", rc, err.msg);
    }
    return ok;
}

static void *churn_thread(void *arg)
{
    return churn((unsigned)(uintptr_t)arg, 40) ? NULL : arg;
}

static bool on_finding(void *ctx, const struct store_finding *f)
{
    (void)ctx;
    if (f->what)
        fail_msg("%s %s", f->digest ? f->digest : "index", f->what);
    return true;
}

static void test_many(void **state)
{
    (void)state;
    pthread_t threads[6];
    struct err err = ERR_INIT;
    uint64_t n;
    void *failed;
    streams_make();
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn_thread, (void *)(i + 1)), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_int_equal(store_verify(store, false, on_finding, NULL, &n, &err), 0);
    streams_release();
}

static void test_killed(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    unsigned rng = 99;
    uint64_t n;
    streams_make();
    store_close(store);
    for (int i = 0; i < 40; i++) {
        struct store_list l;
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            if (store_open(dir, &store, &err) < 0)
                _exit(3);
            _exit(churn((unsigned)i, 1u << 30) ? 0 : 4);
        }
        rng = rng * 1103515245 + 12345;
        usleep(2000 + (rng >> 8) % 20000);
        int status = 0;
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        if (store_open(dir, &store, &err) < 0)
            fail_msg("%s", err.msg);
        assert_int_equal(store_verify(store, false, on_finding, NULL, &n, &err), 0);
        assert_int_equal(store_list(store, &l, &err), 0);
        for (size_t k = 0; k < l.n; k++) {
            struct store_model m;
            assert_int_equal(store_model_read(store, l.items[k].digest, &m, &err), 0);
            if (store_model_files(store, &m, &err) < 0)
                fail_msg("%s", err.msg);
            store_model_release(&m);
        }
        store_list_release(&l);
        store_close(store);
    }
    assert_int_equal(store_open(dir, &store, &err), 0);
    assert_int_equal(store_collect(store, 0, &n, &err), 0);
    assert_int_equal(count("ingest"), 0);
    streams_release();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_docker, begin, end),
        cmocka_unit_test_setup_teardown(test_archives, begin, end),
        cmocka_unit_test_setup_teardown(test_hostile_archives, begin, end),
        cmocka_unit_test_setup_teardown(test_hostile_archive_among_many, begin, end),
        cmocka_unit_test_setup_teardown(test_streams, begin, end),
        cmocka_unit_test_setup_teardown(test_hostile_streams, begin, end),
        cmocka_unit_test_setup_teardown(test_many, begin, end),
        cmocka_unit_test_setup_teardown(test_killed, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
