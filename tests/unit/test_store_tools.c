/* SPDX-License-Identifier: Apache-2.0 */
/* The store as other tools see it: skopeo and oras read the layout as it lies there, and what they
 * write into it is found.  Skipped, aloud, where they are not installed.  BERTH_TEST_TOOLS may hold
 * a command to be put before theirs, which is run in the store's folder. */
#include "tests/support/cmocka_all.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/store/model.h"
#include "lib/base/mem.h"
#include "lib/oci/package.h"

static char dir[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* Runs a tool in the store's folder; what it prints, at most n bytes.  Its status. */
static int tool(const char *command, char *out, size_t n)
{
    char line[1024];
    const char *before = getenv("BERTH_TEST_TOOLS");
    snprintf(line, sizeof(line), "cd %s && %s %s 2>&1", dir, before ? before : "", command);
    FILE *f = popen(line, "r");
    assert_non_null(f);
    size_t len = fread(out, 1, n - 1, f);
    out[len] = '\0';
    return pclose(f);
}

static bool has_tool(const char *name)
{
    char command[64], out[512];
    snprintf(command, sizeof(command), "%s --version", name);
    if (strcmp(name, "oras") == 0)
        snprintf(command, sizeof(command), "oras version");
    if (tool(command, out, sizeof(out)) == 0)
        return true;
    print_message("SKIPPED: %s is not installed\n", name);
    return false;
}

static struct oci_file put_file(struct store *s, const char *path, const char *text)
{
    struct oci_file f = {.path = path, .role = oci_role_of_name(path), .size = strlen(text)};
    struct err err = ERR_INIT;
    if (store_put(s, text, strlen(text), f.digest, &err) < 0)
        fail_msg("%s", err.msg);
    return f;
}

static void put_model(struct store *s, bool is_cncf, const char *name, struct buf *manifest,
                      char digest[OCI_DIGEST_CHARS + 1])
{
    struct arena a;
    struct oci_package p;
    struct buf config;
    struct err err = ERR_INIT;
    char ignored[OCI_DIGEST_CHARS + 1];
    const struct oci_file files[] = {put_file(s, "m.gguf", "these are the weights"),
                                     put_file(s, "LICENSE", "do as you like")};
    arena_init(&a, 1 << 20);
    oci_package_init(&p, oci_package_kind("gguf", is_cncf));
    p.config.format = "gguf";
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        assert_int_equal(oci_package_add(&p, &files[i], &a, &err), 0);
    assert_int_equal(oci_package_build(&p, &a, &config, manifest, &err), 0);
    assert_int_equal(store_put(s, config.data, config.len, ignored, &err), 0);
    assert_int_equal(store_put(s, manifest->data, manifest->len, digest, &err), 0);
    if (store_tag(s, name, digest, &err) < 0)
        fail_msg("%s", err.msg);
    buf_release(&config);
    arena_release(&a);
}

static struct store *store;
static struct buf manifests[2];
static char digests[2][OCI_DIGEST_CHARS + 1];
static const char *const names[] = {"docker.io/ai/x:latest", "reg.example:5000/team/y:q4"};

static int begin(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    snprintf(dir, sizeof(dir), "/tmp/berth-tools.XXXXXX");
    if (!mkdtemp(dir) || store_open(dir, &store, &err) < 0)
        return -1;
    for (int i = 0; i < 2; i++)
        put_model(store, i, names[i], &manifests[i], digests[i]);
    return 0;
}

static int end(void **state)
{
    (void)state;
    store_close(store);
    for (int i = 0; i < 2; i++)
        buf_release(&manifests[i]);
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A model under this name, with the bytes that another one has. */
static void is_here(const char *name, const char *digest)
{
    char found[OCI_DIGEST_CHARS + 1];
    struct store_model m;
    struct err err = ERR_INIT;
    if (store_resolve(store, name, found, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(found, digest);
    assert_int_equal(store_model_read(store, found, &m, &err), 0);
    store_model_release(&m);
}

static void test_skopeo(void **state)
{
    (void)state;
    char command[512], out[8192];
    if (!has_tool("skopeo")) {
        skip();
        return;
    }
    for (int i = 0; i < 2; i++) {
        snprintf(command, sizeof(command), "skopeo inspect --raw oci:.:%s", names[i]);
        if (tool(command, out, sizeof(out)))
            fail_msg("%s", out);
        assert_string_equal(out, buf_str(&manifests[i]));
    }
    /* out into another layout, and back under another name */
    snprintf(command, sizeof(command), "skopeo copy oci:.:%s oci:ingest/other:name", names[0]);
    if (tool(command, out, sizeof(out)))
        fail_msg("%s", out);
    if (tool("skopeo copy oci:ingest/other:name oci:.:docker.io/ai/back:v1", out, sizeof(out)))
        fail_msg("%s", out);
    is_here("docker.io/ai/back:v1", digests[0]);
    is_here(names[0], digests[0]);
}

static void test_oras(void **state)
{
    (void)state;
    char command[512], out[8192];
    if (!has_tool("oras")) {
        skip();
        return;
    }
    for (int i = 0; i < 2; i++) {
        snprintf(command, sizeof(command), "oras manifest fetch --oci-layout .@%s", digests[i]);
        if (tool(command, out, sizeof(out)))
            fail_msg("%s", out);
        assert_string_equal(out, buf_str(&manifests[i]));
    }
    if (tool("oras repo tags --oci-layout .", out, sizeof(out)))
        fail_msg("%s", out);
    assert_true(strstr(out, names[0]) && strstr(out, names[1]));
    /* files, by the names that their layers carry */
    snprintf(command, sizeof(command), "oras pull --oci-layout .@%s -o ingest/files", digests[0]);
    if (tool(command, out, sizeof(out)))
        fail_msg("%s", out);
    assert_int_equal(tool("cat ingest/files/m.gguf ingest/files/LICENSE", out, sizeof(out)), 0);
    assert_string_equal(out, "these are the weightsdo as you like");
    /* out and back */
    snprintf(command, sizeof(command),
             "oras copy --from-oci-layout .@%s --to-oci-layout ingest/copy:one", digests[1]);
    if (tool(command, out, sizeof(out)))
        fail_msg("%s", out);
    if (tool("oras copy --from-oci-layout ingest/copy:one --to-oci-layout .:two", out, sizeof(out)))
        fail_msg("%s", out);
    is_here("two", digests[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_skopeo, begin, end),
        cmocka_unit_test_setup_teardown(test_oras, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
