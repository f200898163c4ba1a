/* SPDX-License-Identifier: Apache-2.0 */
/* lib/sys/sandbox: what a hostile worker could try, tried, each in a process of its own. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/sys/sandbox.h"

#define MEMORY_LIMIT (256u << 20)

enum { ALLOWED = 10, REFUSED = 11, NO_SANDBOX = 12 };

static int outcome(bool worked)
{
    return worked                                                 ? ALLOWED
           : errno == EACCES || errno == EPERM || errno == ENOSYS ? REFUSED
                                                                  : 100 + errno;
}

/* Runs probe in a sandboxed child: its outcome, or minus the signal that killed it. */
static int probe_run(enum sandbox_profile profile, int (*probe)(void))
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct err err = ERR_INIT;
        struct sandbox_report report;
        if (sandbox_apply_self(profile, MEMORY_LIMIT, &report, &err) < 0) {
            fprintf(stderr, "%s\n", err.msg);
            _exit(NO_SANDBOX);
        }
        _exit(probe());
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int try_open(void)
{
    return outcome(open("/etc/passwd", O_RDONLY) >= 0);
}

static int try_create(void)
{
    return outcome(open("/tmp/berth-sandbox-test", O_WRONLY | O_CREAT, 0600) >= 0);
}

static int try_stat(void)
{
    struct stat st;
    return outcome(stat("/etc/passwd", &st) == 0);
}

static int try_socket(void)
{
    return outcome(socket(AF_INET, SOCK_STREAM, 0) >= 0);
}

static int try_exec(void)
{
    char *argv[] = {(char[]){"/bin/true"}, NULL};
    execve(argv[0], argv, NULL);
    return outcome(false);
}

static int try_fork(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return outcome(pid > 0);
}

static int try_ptrace(void)
{
    return outcome(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) == 0);
}

static int try_kill(void)
{
    return outcome(kill(getppid(), 0) == 0);
}

static int try_exec_memory(void)
{
    return outcome(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
                   MAP_FAILED);
}

static int try_mount_namespace(void)
{
    return outcome(syscall(SYS_unshare, 0x00020000) == 0);
}

static int try_too_much_memory(void)
{
    void *p = mmap(NULL, 2 * (size_t)MEMORY_LIMIT, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED && errno == ENOMEM)
        return REFUSED;
    return outcome(p != MAP_FAILED);
}

/* What counts against no limit of the process. */
static int try_shared_memory(void)
{
    return outcome(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) !=
                   MAP_FAILED);
}

static int try_raise_limit(void)
{
    struct rlimit r = {RLIM_INFINITY, RLIM_INFINITY};
    return outcome(setrlimit(RLIMIT_DATA, &r) == 0);
}

static void *thread_body(void *ctx)
{
    *(int *)ctx = 7;
    return NULL;
}

static int do_compute(void)
{
    int got = 0;
    pthread_t t;
    char *p = malloc(8u << 20);
    if (!p || pthread_create(&t, NULL, thread_body, &got) || pthread_join(t, NULL))
        return 1;
    memset(p, 1, 8u << 20);
    free(p);
    struct stat st;
    if (fstat(1, &st) < 0 || sysconf(_SC_NPROCESSORS_ONLN) < 1 || sysconf(_SC_PHYS_PAGES) < 1)
        return 2;
    return got == 7 ? ALLOWED : 3;
}

static int do_abort(void)
{
    abort();
}

static void what_a_worker_needs_works(void **state)
{
    (void)state;
    assert_int_equal(probe_run(SANDBOX_WORKER, do_compute), ALLOWED);
    assert_int_equal(probe_run(SANDBOX_DEBUG, do_compute), ALLOWED);
    assert_int_equal(probe_run(SANDBOX_WORKER, do_abort), -SIGABRT);
}

static void network_and_programs_are_refused(void **state)
{
    (void)state;
    static int (*const probes[])(void) = {try_socket, try_exec};
    for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
        int got = probe_run(SANDBOX_WORKER, probes[i]);
#ifdef BERTH_SAN
        assert_int_equal(got, REFUSED);
#else
        assert_int_equal(got, -SIGSYS);
#endif
    }
}

static void files_and_other_processes_are_refused(void **state)
{
    (void)state;
#ifdef BERTH_SAN
    skip(); /* the relaxed sandbox of sanitizer builds */
#endif
    for (int profile = SANDBOX_WORKER; profile <= SANDBOX_DEBUG; profile++) {
        enum sandbox_profile p = (enum sandbox_profile)profile;
        assert_int_equal(probe_run(p, try_open), REFUSED);
        assert_int_equal(probe_run(p, try_create), REFUSED);
        assert_int_equal(probe_run(p, try_stat), REFUSED);
        assert_int_equal(probe_run(p, try_exec_memory), REFUSED);
        assert_int_equal(probe_run(p, try_raise_limit), REFUSED);
        assert_int_equal(probe_run(p, try_too_much_memory), REFUSED);
        assert_int_equal(probe_run(p, try_shared_memory), REFUSED);
        assert_int_equal(probe_run(p, try_fork), -SIGSYS);
        assert_int_equal(probe_run(p, try_ptrace), -SIGSYS);
        assert_int_equal(probe_run(p, try_kill), -SIGSYS);
        assert_int_equal(probe_run(p, try_mount_namespace), -SIGSYS);
    }
}

static int try_write_file(int fd)
{
    signal(SIGXFSZ, SIG_IGN);
    return write(fd, "x", 1) == 1 ? ALLOWED : errno == EFBIG ? REFUSED : 100 + errno;
}

static int out_fd = -1;

static int try_write_out(void)
{
    return try_write_file(out_fd);
}

static void only_debug_writes_to_files(void **state)
{
    (void)state;
    char path[] = "/tmp/berth-test-XXXXXX";
    out_fd = mkstemp(path);
    assert_true(out_fd >= 0);
    unlink(path);
    assert_int_equal(probe_run(SANDBOX_WORKER, try_write_out), REFUSED);
    assert_int_equal(probe_run(SANDBOX_DEBUG, try_write_out), ALLOWED);
    close(out_fd);
}

static void report_names_the_layers(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct sandbox_report r;
        struct err err = ERR_INIT;
        int rc = sandbox_apply_self(SANDBOX_WORKER, MEMORY_LIMIT, &r, &err);
        ssize_t done = write(fds[1], r.text, sizeof(r.text));
        _exit(rc == 0 && done > 0 ? 0 : 1);
    }
    struct sandbox_report r;
    int status;
    assert_int_equal(read(fds[0], r.text, sizeof(r.text)), sizeof(r.text));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_non_null(strstr(r.text, "sandbox: "));
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_worker_needs_works),
        cmocka_unit_test(network_and_programs_are_refused),
        cmocka_unit_test(files_and_other_processes_are_refused),
        cmocka_unit_test(only_debug_writes_to_files),
        cmocka_unit_test(report_names_the_layers),
    };
    return cmocka_run_group_tests_name("sandbox", tests, NULL, NULL);
}
