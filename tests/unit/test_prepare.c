/* SPDX-License-Identifier: Apache-2.0 */
/* The process that prepares weights, as the daemon sees it (lib/ipc/prepare.h).  This program,
 * started again as `berth worker --prepare ...`, is that process. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/ipc/frame.h"
#include "lib/ipc/prepare.h"
#include "lib/sys/spawn.h"
#include "tests/support/engine_run.h"
#include "tests/support/fds.h"
#include "tests/support/gguf_build.h"
#include "tests/support/tiny_model.h"
#include "worker/serve/worker.h"

static struct gguf *model;
static struct buf file;
static uint64_t n_bytes;

static int setup(void **state)
{
    const struct tiny_model m = tiny_model_as(tiny_model_find("llama-moe"), DTYPE_Q8_0);
    const struct engine_config cfg = {.cpu_level = "ref"};
    (void)state;
    model = tiny_model_open(&m);
    tiny_model_build(&m, &file);
    struct engine *e = run_open(model, &cfg);
    n_bytes = engine_prepared_bytes(e, WEIGHTS_OF_MODEL);
    engine_free(e);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    gguf_close(model);
    buf_release(&file);
    return 0;
}

static uint64_t last_done;
static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    assert_true(done <= total);
    last_done = done;
}

/* Of these bytes, into out_fd, which is closed. */
static int run(const void *bytes, size_t n, int out_fd, uint64_t n_wanted,
               const atomic_bool *is_called_off, struct err *err)
{
    const size_t before = fds_count();
    const int fd = build_fd(bytes, n);
    const char *name = "model.gguf";
    const struct prepare_request q = {.fds = &fd,
                                      .names = &name,
                                      .n = 1,
                                      .out_fd = out_fd,
                                      .n_bytes = n_wanted,
                                      .cpu_level = "ref",
                                      .is_called_off = is_called_off,
                                      .progress = on_progress};
    const int rc = prepare_run(&q, err);
    close(fd);
    assert_int_equal(fds_count(), before);
    return rc;
}

static void writes_what_the_engine_takes(void **state)
{
    struct err err = ERR_INIT;
    const struct engine_config cfg = {.cpu_level = "ref"};
    const int out = build_fd("", 0);
    (void)state;
    if (run(file.data, file.len, out, n_bytes, NULL, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(last_done, n_bytes);
    struct engine *e = run_open(model, &cfg);
    assert_int_equal(engine_attach_prepared(e, WEIGHTS_OF_MODEL, out, &err), 0);
    engine_free(e);
    close(out);
}

static void refused(const void *bytes, size_t n, uint64_t n_wanted, enum err_code code,
                    const char *why)
{
    struct err err = ERR_INIT;
    const int out = build_fd("", 0);
    assert_int_equal(run(bytes, n, out, n_wanted, NULL, &err), -(int)code);
    if (!strstr(err.msg, why))
        fail_msg("'%s' does not say '%s'", err.msg, why);
    struct stat st;
    assert_int_equal(fstat(out, &st), 0);
    assert_true((uint64_t)st.st_size <= n_wanted);
    close(out);
}

/* No byte past the agreed length, whatever the model makes of it. */
static void failures_have_a_sentence(void **state)
{
    struct buf plain;
    (void)state;
    refused(file.data, file.len, n_bytes - 4096, E_IO, "File too large");
    refused(file.data, file.len, 0, E_IO, "File too large");
    refused(file.data, file.len, n_bytes + 4096, E_FORMAT, "were planned");
    refused(file.data, file.len / 2, n_bytes, E_FORMAT, "model.gguf");
    refused("not a model", 11, n_bytes, E_FORMAT, "model.gguf");
    /* nothing in it to prepare */
    tiny_model_build(tiny_model_find("llama"), &plain);
    refused(plain.data, plain.len, n_bytes, E_FORMAT, "were planned");
    buf_release(&plain);
}

/* As the disk's fault, which passes, and not as the model's. */
static void full_disk(void **state)
{
    struct err err = ERR_INIT;
    char dir[] = "/tmp/berth-prepare.XXXXXX", path[64];
    (void)state;
    assert_non_null(mkdtemp(dir));
    if (mount("none", dir, "tmpfs", 0, "size=16k") < 0) {
        rmdir(dir);
        print_message("SKIPPED: no tmpfs can be mounted here (%s)\n", strerror(errno));
        skip();
        return;
    }
    snprintf(path, sizeof(path), "%s/out", dir);
    const int out = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    const int rc = run(file.data, file.len, out, n_bytes, NULL, &err);
    close(out);
    umount(dir);
    rmdir(dir);
    assert_int_equal(rc, -E_IO);
    assert_non_null(strstr(err.msg, "No space left"));
    assert_int_equal(err.sys, ENOSPC);
}

static void called_off(void **state)
{
    struct err err = ERR_INIT;
    const atomic_bool yes = true;
    const int out = build_fd("", 0);
    (void)state;
    assert_int_equal(run(file.data, file.len, out, n_bytes, &yes, &err), -E_CANCELED);
    close(out);
}

/* Starts it, sends it bytes with n_fds descriptors beside them, and returns how it ended. */
static struct child_end fed(const struct buf *bytes, uint32_t n_fds)
{
    const char *const argv[] = {"berth", "worker", "--prepare", "1000", "1000000000", NULL};
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(4 * sizeof(int))];
    } control = {0};
    int pair[2];
    struct child child;
    struct child_end end = {0};
    struct err err = ERR_INIT;
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    const struct spawn_config cfg = {.argv = argv, .stderr_fd = null, .frames_fd = pair[1]};
    assert_int_equal(spawn_self(&cfg, &child, &err), 0);
    close(pair[1]);
    struct iovec iov = {bytes->data, bytes->len};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds) {
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(n_fds * sizeof(int)),
                              .cmsg_level = SOL_SOCKET,
                              .cmsg_type = SCM_RIGHTS};
        for (uint32_t i = 0; i < n_fds; i++)
            memcpy(CMSG_DATA(c) + i * sizeof(int), &null, sizeof(int));
    }
    assert_int_equal(sendmsg(pair[0], &m, MSG_NOSIGNAL), bytes->len);
    shutdown(pair[0], SHUT_WR);
    for (int i = 0; i < 3000 && child_reap(&child, &end) == 0; i++)
        usleep(20000);
    close(null);
    close(pair[0]);
    close(child.pidfd);
    return end;
}

static void hostile_questions_end_it(void **state)
{
    struct err err = ERR_INIT;
    struct buf b, payload;
    (void)state;
    buf_init(&b, 1 << 20);
    buf_init(&payload, 1 << 20);
    put_u32(&payload, 1);
    put_str(&payload, STR_LIT("x"));
    put_str(&payload, STR_LIT("ref"));
    static const struct {
        enum msg_type type;
        size_t cut;
        uint32_t n_fds;
    } cases[] = {{MSG_PREPARE, 0, 0}, {MSG_PREPARE, 0, 1}, {MSG_PREPARE, 0, 3},
                 {MSG_PREPARE, 1, 2}, {MSG_PROBE, 0, 1},   {MSG_SHUTDOWN, 0, 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf_clear(&b);
        assert_int_equal(
            frame_write(&b, cases[i].type, payload.data, payload.len - cases[i].cut, &err), 0);
        const struct child_end end = fed(&b, cases[i].n_fds);
        assert_false(end.was_killed);
        assert_int_equal(end.status, 4);
    }
    buf_release(&payload);
    buf_release(&b);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return worker_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_what_the_engine_takes),
        cmocka_unit_test(failures_have_a_sentence),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(called_off),
        cmocka_unit_test(hostile_questions_end_it),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
