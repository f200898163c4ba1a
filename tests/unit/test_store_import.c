/* SPDX-License-Identifier: Apache-2.0 */
/* Stores of Docker Model Runner, made here as it lays them out: imported by links, by copying, in
 * part; damaged and hostile ones. */
#include "tests/support/cmocka_all.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/store/import.h"
#include "daemon/store/model.h"
#include "lib/base/mem.h"
#include "lib/oci/sha256.h"
#include "lib/sys/file.h"

static char top[64], theirs[96], ours[96];
static struct store *store;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void write_file(const char *name, const void *p, size_t n)
{
    char path[256];
    struct err err = ERR_INIT;
    snprintf(path, sizeof(path), "%s/%s", theirs, name);
    if (file_write_whole(path, p, n, &err) < 0)
        fail_msg("%s", err.msg);
}

static int begin(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char path[160];
    snprintf(top, sizeof(top), "/tmp/berth-import.XXXXXX");
    if (!mkdtemp(top))
        return -1;
    snprintf(theirs, sizeof(theirs), "%s/theirs", top);
    snprintf(ours, sizeof(ours), "%s/ours", top);
    snprintf(path, sizeof(path), "%s/blobs/sha256", theirs);
    int rc = file_make_dirs(path, &err);
    snprintf(path, sizeof(path), "%s/manifests/sha256", theirs);
    rc = rc == 0 ? file_make_dirs(path, &err) : rc;
    write_file("layout.json", "{\"version\":\"1.0.0\"}", 19);
    return rc == 0 ? store_open(ours, &store, &err) : rc;
}

static int end(void **state)
{
    (void)state;
    store_close(store);
    store = NULL;
    return nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void blob(const char *where, const char *text, char digest[OCI_DIGEST_CHARS + 1])
{
    struct sha256 h;
    char name[160];
    sha256_init(&h);
    sha256_add(&h, text, strlen(text));
    sha256_end(&h, digest);
    snprintf(name, sizeof(name), "%s/sha256/%s", where, digest + 7);
    write_file(name, text, strlen(text));
}

/* A model with these weights; its id. */
static void model(const char *weights, char id[OCI_DIGEST_CHARS + 1])
{
    char config[OCI_DIGEST_CHARS + 1], layer[OCI_DIGEST_CHARS + 1], text[1024];
    blob("blobs", "{\"config\":{\"format\":\"gguf\"}}", config);
    blob("blobs", weights, layer);
    snprintf(text, sizeof(text),
             "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/"
             "vnd.docker.ai.model.config.v0.1+json\",\"digest\":\"%s\",\"size\":28},\"layers\":[{"
             "\"mediaType\":\"application/vnd.docker.ai.gguf.v3\",\"digest\":\"%s\",\"size\":%zu}]"
             "}",
             config, layer, strlen(weights));
    blob("manifests", text, id);
}

struct notes {
    char text[2048];
    uint64_t done, total;
    uint32_t n_calls, stop_after;
};

static bool on_progress(void *ctx, uint64_t done, uint64_t total, const char *note)
{
    struct notes *n = ctx;
    assert_true(done >= n->done && (!n->total || n->total == total));
    n->done = done;
    n->total = total;
    if (note && strlen(n->text) + strlen(note) + 2 < sizeof(n->text))
        strcat(strcat(n->text, note), "\n");
    return ++n->n_calls != n->stop_after;
}

static int import(struct notes *n, struct store_import_report *r, struct err *err)
{
    *n = (struct notes){.stop_after = n->stop_after};
    return store_import(store, theirs, on_progress, n, r, err);
}

static bool on_finding(void *ctx, const struct store_finding *f)
{
    (void)ctx;
    if (f->what)
        fail_msg("%s %s", f->digest, f->what);
    return true;
}

static void is_clean(void)
{
    struct err err = ERR_INIT;
    uint64_t n;
    assert_int_equal(store_verify(store, false, on_finding, NULL, &n, &err), 0);
}

static ino_t inode_of(const char *root, const char *digest)
{
    struct stat st;
    char path[256];
    snprintf(path, sizeof(path), "%s/blobs/sha256/%s", root, digest + 7);
    assert_int_equal(stat(path, &st), 0);
    return st.st_ino;
}

/* "$1" and "$2" become the ids. */
static void models_json(const char *text, const char *a, const char *b)
{
    struct buf out;
    buf_init(&out, 4096);
    for (const char *p = text; *p; p++) {
        if (p[0] == '$' && (p[1] == '1' || p[1] == '2'))
            buf_append_str(&out, *++p == '1' ? a : b);
        else
            buf_append_char(&out, *p);
    }
    write_file("models.json", out.data, out.len);
    buf_release(&out);
}

#define TWO                                                                                        \
    "{\"models\":[{\"id\":\"$1\",\"tags\":[\"docker.io/ai/one:latest\",\"ai/uno\"],\"files\":[]}," \
    "{\"id\":\"$2\",\"tags\":[]}]}"

static void test_links(void **state)
{
    (void)state;
    char a[OCI_DIGEST_CHARS + 1], b[OCI_DIGEST_CHARS + 1], found[OCI_DIGEST_CHARS + 1];
    struct store_import_report r;
    struct notes n = {0};
    struct err err = ERR_INIT;
    struct store_model m;
    model("weights of the first", a);
    model("weights of the second", b);
    models_json(TWO, a, b);
    if (import(&n, &r, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(n.text, "");
    assert_int_equal(n.done, n.total);
    assert_int_equal(r.n_models, 2);
    assert_int_equal(r.n_names, 2);
    assert_int_equal(r.linked_bytes, 28 + 20 + 21);
    assert_int_equal(r.copied_bytes, 0);
    assert_int_equal(store_resolve(store, "docker.io/ai/uno:latest", found, &err), 0);
    assert_string_equal(found, a);
    assert_int_equal(store_model_read(store, b, &m, &err), 0);
    assert_int_equal(m.n_names, 0);
    assert_true(inode_of(theirs, m.manifest.layers[0].digest) ==
                inode_of(ours, m.manifest.layers[0].digest));
    store_model_release(&m);
    is_clean();
    /* once more: nothing to do; and what is removed here stays there */
    assert_int_equal(import(&n, &r, &err), 0);
    assert_int_equal(r.linked_bytes + r.copied_bytes, 0);
    assert_int_equal(store_remove(store, a, &err), 0);
    assert_int_equal(store_remove(store, b, &err), 0);
    assert_int_equal(import(&n, &r, &err), 0);
    assert_int_equal(r.linked_bytes, 28 + 20 + 21);
    /* a name that means something else here stays */
    assert_int_equal(store_tag(store, "docker.io/ai/one:latest", b, &err), 0);
    assert_int_equal(import(&n, &r, &err), 0);
    assert_non_null(strstr(n.text, "docker.io/ai/one:latest means"));
    assert_int_equal(store_resolve(store, "docker.io/ai/one:latest", found, &err), 0);
    assert_string_equal(found, b);
}

/* Onto another file system: copied; stopped half way and taken up. */
static void test_copies(void **state)
{
    (void)state;
    char a[OCI_DIGEST_CHARS + 1], b[OCI_DIGEST_CHARS + 1];
    struct store_import_report r;
    struct notes n = {0};
    struct err err = ERR_INIT;
    store_close(store);
    store = NULL;
    if (mount("none", ours, "tmpfs", 0, "size=8m") < 0) {
        print_message("SKIPPED: no tmpfs can be mounted here\n");
        assert_int_equal(store_open(ours, &store, &err), 0);
        skip();
    }
    assert_int_equal(store_open(ours, &store, &err), 0);
    model("weights of the first", a);
    model("weights of the second", b);
    models_json(TWO, a, b);
    int stops = 0;
    for (n.stop_after = 1; import(&n, &r, &err) < 0; n.stop_after++) {
        assert_int_equal(err.code, E_CANCELED);
        is_clean();
        stops++;
    }
    assert_true(stops > 1);
    n.stop_after = 0;
    assert_int_equal(import(&n, &r, &err), 0);
    assert_int_equal(r.n_models, 2);
    is_clean();
    store_close(store);
    assert_int_equal(umount(ours), 0);
    assert_int_equal(store_open(ours, &store, &err), 0);
}

static void test_damaged(void **state)
{
    (void)state;
    char a[OCI_DIGEST_CHARS + 1], b[OCI_DIGEST_CHARS + 1], digest[OCI_DIGEST_CHARS + 1], name[160];
    struct store_import_report r;
    struct notes n = {0};
    struct err err = ERR_INIT;
    model("weights of the first", a);
    model("weights of the second", b);
    models_json(TWO, a, b);
    /* other bytes, the same length */
    blob("blobs", "weights of the first", digest);
    snprintf(name, sizeof(name), "blobs/sha256/%s", digest + 7);
    write_file(name, "weights of the fIrst", 20);
    assert_int_equal(import(&n, &r, &err), 0);
    assert_int_equal(r.n_models, 1);
    assert_int_equal(r.n_skipped, 1);
    assert_non_null(strstr(n.text, "other bytes"));
    is_clean();
    /* shorter; a link out; missing */
    write_file(name, "weights", 7);
    assert_int_equal(import(&n, &r, &err), 0);
    assert_non_null(strstr(n.text, "7 bytes instead of 20"));
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", theirs, name);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(import(&n, &r, &err), 0);
    assert_non_null(strstr(n.text, "is not there"));
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(import(&n, &r, &err), -E_IO);
    assert_int_equal(unlink(path), 0);
    /* a manifest that is not what its name says, hostile ids and names */
    snprintf(name, sizeof(name), "manifests/sha256/%s", a + 7);
    write_file(name, "{}", 2);
    assert_int_equal(import(&n, &r, &err), 0);
    assert_non_null(strstr(n.text, "its manifest has other bytes"));
    models_json("{\"models\":[{\"id\":\"sha256:../../../etc/passwd\"},{\"id\":7},7,{\"id\":\"$1\","
                "\"tags\":[\"../x:y z\",9]}]}",
                b, b);
    assert_int_equal(import(&n, &r, &err), 0);
    assert_int_equal(r.n_models, 1);
    assert_int_equal(r.n_skipped, 4);
    is_clean();
    /* what is no such store */
    models_json("[]", a, b);
    assert_int_equal(import(&n, &r, &err), -E_FORMAT);
    write_file("layout.json", "{\"version\":\"2.0.0\"}", 19);
    assert_int_equal(import(&n, &r, &err), -E_UNSUPPORTED);
    snprintf(path, sizeof(path), "%s/layout.json", theirs);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(import(&n, &r, &err), -E_UNSUPPORTED);
    assert_int_equal(store_import(store, "/nowhere/at/all", on_progress, &n, &r, &err),
                     -E_NOTFOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_links, begin, end),
        cmocka_unit_test_setup_teardown(test_copies, begin, end),
        cmocka_unit_test_setup_teardown(test_damaged, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
