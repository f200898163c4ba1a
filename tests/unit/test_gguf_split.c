/* SPDX-License-Identifier: Apache-2.0 */
/* worker/model: split models come together from their shards, by descriptor and by path, or say
 * what is missing. */
#include "tests/support/cmocka_all.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/gguf_build.h"

/* Shard no of count, holding the tensor name, claiming total tensors. */
static int shard_fd(uint32_t no, uint32_t count, uint32_t total, const char *name)
{
    struct gguf_build b;
    struct buf file;
    build_init(&b);
    if (no == 0)
        build_llama(&b);
    build_kv_int(&b, "split.no", GGUF_U16, no);
    build_kv_int(&b, "split.count", GGUF_U16, count);
    build_kv_int(&b, "split.tensors.count", GGUF_I32, total);
    build_tensor(&b, name, DTYPE_F32, 2, (const uint64_t[]){32, no + 1});
    build_file(&b, &file);
    int fd = build_fd(file.data, file.len);
    buf_release(&file);
    build_release(&b);
    return fd;
}

static void fds_close(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        close(fds[i]);
}

static void refused(const int *fds, uint32_t n, const char *file, const char *says)
{
    static const char *const names[] = {"one", "two", "three"};
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    int rc = gguf_open(fds, names, n, 0, &g, &err);
    if (rc != -E_FORMAT || !strstr(err.msg, says) || strncmp(err.msg, file, strlen(file)) != 0)
        fail_msg("%d: %s", rc, err.msg);
}

static void shards_come_together(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    int fds[] = {shard_fd(0, 3, 3, "a"), shard_fd(1, 3, 3, "b"), shard_fd(2, 3, 3, "c")};
    assert_int_equal(gguf_open(fds, NULL, 3, 0, &g, &err), 0);
    fds_close(fds, 3); /* not needed any more */
    assert_int_equal(gguf_n_tensors(g), 3);
    const struct gguf_tensor *c = gguf_find_tensor(g, "c");
    assert_int_equal(c->shard, 2);
    assert_int_equal(c->n_bytes, 384);
    assert_int_equal(((const unsigned char *)c->data)[383], 383 % 256);
    assert_non_null(gguf_find(g, "general.architecture"));
    gguf_close(g);
}

static void wrong_sets_of_shards_are_named(void **state)
{
    (void)state;
    int a = shard_fd(0, 2, 2, "a"), b = shard_fd(1, 2, 2, "b"), b2 = shard_fd(1, 2, 2, "b");
    refused((const int[]){b, a}, 2,
            "one: ", "'split.no' is 1 where shard 1 of 2 (split.no 0) is due: shards are swapped");
    refused((const int[]){a, a}, 2, "two: ", "it is the same file as shard 1; shard 2 is missing");
    refused((const int[]){a}, 1,
            "one: ", "it is shard 1 of 2 of a split model and the other shards are missing");
    refused((const int[]){b}, 1, "one: ", "it is shard 2 of 2 of a split model");
    refused((const int[]){a, b, b2}, 3, "one: ", "'split.count' is 2 and 3 shards are given");
    int three[] = {shard_fd(0, 3, 3, "a"), shard_fd(1, 3, 3, "b"), shard_fd(1, 3, 3, "b"),
                   shard_fd(2, 3, 3, "b")};
    refused((const int[]){three[0], three[1]}, 2,
            "one: ", "'split.count' is 3 and 2 shards are given: some are missing");
    refused(three, 3, "three: ", "'split.no' is 1 where shard 3 of 3 (split.no 2) is due");
    refused((const int[]){three[0], three[1], three[3]}, 3, "three: ", "tensor 'b' is there twice");
    int total[] = {shard_fd(0, 2, 5, "a"), shard_fd(1, 2, 5, "b")};
    refused(total, 2, "one: ", "'split.tensors.count' is 5 and the 2 shards hold 2 tensors");
    int whole = open("tests/data/gguf/dummy.gguf", O_RDONLY);
    refused((const int[]){a, whole}, 2,
            "two: ", "no metadata key 'split.count': it is not a shard");
    fds_close(total, 2);
    fds_close(three, 4);
    fds_close((int[]){a, b, b2, whole}, 4);
}

static void numbers_of_files_have_limits(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    assert_int_equal(gguf_open(NULL, NULL, 0, 0, &g, &err), -E_LIMIT);
    assert_int_equal(gguf_open(NULL, NULL, 5000, 0, &g, &err), -E_LIMIT);
    assert_int_equal(gguf_open_path("x-00001-of-99999.gguf", 0, &g, &err), -E_LIMIT);
    assert_non_null(strstr(err.msg, "99999 shards"));
}

static void copy(const char *from, const char *folder, const char *name)
{
    struct buf file;
    char to[512];
    build_read(from, &file);
    snprintf(to, sizeof(to), "%s/%s", folder, name);
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(file.data, 1, file.len, f), file.len);
    fclose(f);
    buf_release(&file);
}

static int open_in(const char *folder, const char *name, struct err *err)
{
    char path[512];
    struct gguf *g = NULL;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    *err = (struct err)ERR_INIT;
    int rc = gguf_open_path(path, 0, &g, err);
    gguf_close(g);
    return rc;
}

static void paths_find_sisters(void **state)
{
    (void)state;
    const char *const one = "tests/data/gguf/dummy-00001-of-00002.gguf";
    const char *const two = "tests/data/gguf/dummy-00002-of-00002.gguf";
    struct err err;
    char folder[] = "/tmp/berth-split-XXXXXX", command[64];
    assert_non_null(mkdtemp(folder));
    copy(one, folder, "m-00001-of-00002.gguf");
    assert_int_equal(open_in(folder, "m-00001-of-00002.gguf", &err), -E_NOTFOUND);
    assert_non_null(strstr(err.msg, "shard 2 of 2 is missing: "));
    assert_non_null(strstr(err.msg, "m-00002-of-00002.gguf: No such file"));
    copy(two, folder, "m-00002-of-00002.gguf");
    assert_int_equal(open_in(folder, "m-00001-of-00002.gguf", &err), 0);
    assert_int_equal(open_in(folder, "m-00002-of-00002.gguf", &err), 0); /* any of them names all */
    copy(one, folder, "m-00002-of-00002.gguf");
    assert_int_equal(open_in(folder, "m-00001-of-00002.gguf", &err), -E_FORMAT);
    assert_non_null(
        strstr(err.msg, "m-00002-of-00002.gguf: metadata key 'split.no' is 0 where shard 2"));
    copy(one, folder, "renamed.gguf");
    assert_int_equal(open_in(folder, "renamed.gguf", &err), -E_FORMAT);
    assert_non_null(strstr(err.msg, "NAME-00001-of-00002.gguf"));
    copy(one, folder, "n-00001-of-00003.gguf");
    copy(two, folder, "n-00002-of-00003.gguf");
    copy(two, folder, "n-00003-of-00003.gguf");
    assert_int_equal(open_in(folder, "n-00001-of-00003.gguf", &err), -E_FORMAT);
    assert_non_null(strstr(err.msg, "'split.count' is 2 and 3 shards are given"));
    /* Names that only look like shards are plain files. */
    copy("tests/data/gguf/dummy.gguf", folder, "m-00003-of-00002.gguf");
    assert_int_equal(open_in(folder, "m-00003-of-00002.gguf", &err), 0);
    snprintf(command, sizeof(command), "%s/pipe.gguf", folder);
    assert_int_equal(mkfifo(command, 0600), 0);
    assert_int_equal(open_in(folder, "pipe.gguf", &err),
                     -E_INVALID); /* and does not wait for a writer */
    assert_non_null(strstr(err.msg, "not a regular file"));
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_come_together),
        cmocka_unit_test(wrong_sets_of_shards_are_named),
        cmocka_unit_test(numbers_of_files_have_limits),
        cmocka_unit_test(paths_find_sisters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
