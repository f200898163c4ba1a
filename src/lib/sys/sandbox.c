/* SPDX-License-Identifier: Apache-2.0 */
/* Implements sandbox.h on Linux. */
#include "lib/sys/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/limits.h"

#define WORKER_MAX_FDS (LIMIT_MSG_FDS + 64) /* the model's shards and a handful */

/* From the kernel's include/uapi/linux/landlock.h; newer fields than the build machine's header may
 * know. */
struct landlock_rules {
    uint64_t handled_access_fs, handled_access_net, scoped;
};
#define LANDLOCK_VERSION 1u

/* Handled rights by ABI version: whatever is handled and not granted is refused; nothing is
 * granted. */
static struct landlock_rules landlock_rules_for(int abi, size_t *ret_size)
{
    struct landlock_rules r = {.handled_access_fs = (1u << 13) - 1};
    *ret_size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
    if (abi >= 2)
        r.handled_access_fs |= 1u << 13; /* REFER */
    if (abi >= 3)
        r.handled_access_fs |= 1u << 14; /* TRUNCATE */
    if (abi >= 4)
        r.handled_access_net = 3; /* BIND_TCP, CONNECT_TCP */
    if (abi >= 5)
        r.handled_access_fs |= 1u << 15; /* IOCTL_DEV */
    if (abi >= 6)
        r.scoped = 3; /* abstract sockets, signals */
    return r;
}

UNUSED static int landlock_apply(struct sandbox_report *ret, struct err *err)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION);
    if (abi < 1)
        return 0; /* not built, not enabled */
    size_t size;
    struct landlock_rules rules = landlock_rules_for((int)abi, &size);
    int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (fd < 0)
        return err_set_sys(err, E_INTERNAL, "Landlock ruleset");
    long rc = syscall(SYS_landlock_restrict_self, fd, 0);
    if (rc < 0)
        err_set_sys(err, E_INTERNAL, "Landlock");
    close(fd);
    if (rc < 0)
        return -err->code;
    ret->has_landlock = true;
    ret->landlock_abi = (int)abi;
    return 0;
}

/* Allowed whatever their arguments. */
/* clang-format off */
UNUSED static const char *const allowed[] = {
    "read", "readv", "pread64", "preadv", "write", "writev", "recvmsg", "recvfrom", "sendmsg",
    "sendto", "poll", "ppoll", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait",
    "epoll_pwait2", "eventfd2", "timerfd_create", "timerfd_settime", "futex", "futex_waitv",
    "futex_time64", "munmap", "mremap", "madvise", "mincore", "mlock", "munlock", "brk",
    "clock_gettime", "clock_gettime64", "clock_getres", "clock_nanosleep", "nanosleep",
    "gettimeofday", "time", "times", "exit", "exit_group", "rt_sigaction", "rt_sigprocmask",
    "rt_sigreturn", "sigaltstack", "restart_syscall", "sched_yield", "sched_getaffinity",
    "sched_setaffinity", "sched_getparam", "sched_getscheduler", "rseq", "set_robust_list",
    "set_tid_address", "getrandom", "fstat", "lseek", "close", "close_range", "dup", "getpid",
    "gettid", "getrusage", "sysinfo", "membarrier", "getcpu", "fadvise64", "shutdown",
};
/* clang-format on */

/* What libraries try and can do without. */
UNUSED static const struct {
    const char *name;
    int code;
} denied[] = {
    {"open", EACCES},      {"openat", EACCES},       {"openat2", EACCES},  {"access", EACCES},
    {"faccessat", EACCES}, {"faccessat2", EACCES},   {"stat", EACCES},     {"lstat", EACCES},
    {"statx", EACCES},     {"statfs", EACCES},       {"readlink", EACCES}, {"readlinkat", EACCES},
    {"getcwd", EACCES},    {"memfd_create", EACCES}, {"ioctl", ENOTTY},    {"clone3", ENOSYS},
    {"uname", EACCES},
};

struct filter {
    scmp_filter_ctx ctx;
    int rc; /* first failure */
};

/* A system call that this machine's architecture lacks needs no rule. */
static void filter_add(struct filter *f, uint32_t action, const char *name, unsigned n,
                       const struct scmp_arg_cmp *args)
{
    int nr = seccomp_syscall_resolve_name(name);
    if (nr < 0 || f->rc < 0)
        return;
    f->rc = seccomp_rule_add_array(f->ctx, action, nr, n, args);
}

UNUSED static void filter_add_conditional(struct filter *f)
{
    const struct scmp_arg_cmp not_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    const struct scmp_arg_cmp is_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC);
    filter_add(f, SCMP_ACT_ALLOW, "mprotect", 1, &not_exec);
    filter_add(f, SCMP_ACT_ERRNO(EACCES), "mprotect", 1, &is_exec); /* a JIT falls back to none */
    /* Shared memory of no file counts against no limit of the process: only private, or a file's.
     */
    const unsigned flags = MAP_SHARED | MAP_ANONYMOUS;
    const struct scmp_arg_cmp private[] = {not_exec, SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_SHARED, 0)};
    const struct scmp_arg_cmp of_file[] = {not_exec,
                                           SCMP_A3(SCMP_CMP_MASKED_EQ, flags, MAP_SHARED)};
    const struct scmp_arg_cmp shared[] = {not_exec, SCMP_A3(SCMP_CMP_MASKED_EQ, flags, flags)};
    static const char *const mappers[] = {"mmap", "mmap2"};
    for (size_t i = 0; i < ARRAY_LEN(mappers); i++) {
        filter_add(f, SCMP_ACT_ALLOW, mappers[i], 2, private);
        filter_add(f, SCMP_ACT_ALLOW, mappers[i], 2, of_file);
        filter_add(f, SCMP_ACT_ERRNO(EACCES), mappers[i], 2, shared);
        filter_add(f, SCMP_ACT_ERRNO(EACCES), mappers[i], 1, &is_exec);
    }
    /* Threads, not processes.  clone3 hides its flags behind a pointer: ENOSYS, and the C library
     * takes clone. */
    const struct scmp_arg_cmp is_thread = SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD);
    filter_add(f, SCMP_ACT_ALLOW, "clone", 1, &is_thread);
    /* fstat() of newer C libraries; with a path it could still ask whether a file exists, so only
     * in this form. */
    const struct scmp_arg_cmp by_fd = SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH);
    const struct scmp_arg_cmp by_path = SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, 0);
    filter_add(f, SCMP_ACT_ALLOW, "newfstatat", 1, &by_fd);
    filter_add(f, SCMP_ACT_ERRNO(EACCES), "newfstatat", 1, &by_path);
    const struct scmp_arg_cmp self = SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0);
    filter_add(f, SCMP_ACT_ALLOW, "tgkill", 1, &self); /* abort() */
    const struct scmp_arg_cmp zero = SCMP_A0(SCMP_CMP_EQ, 0, 0);
    filter_add(f, SCMP_ACT_ALLOW, "prlimit64", 1, &zero);
    filter_add(f, SCMP_ACT_ALLOW, "setrlimit", 0, NULL);
    filter_add(f, SCMP_ACT_ALLOW, "getrlimit", 0, NULL);
    const struct scmp_arg_cmp set_name = SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0);
    filter_add(f, SCMP_ACT_ALLOW, "prctl", 1, &set_name);
    const struct scmp_arg_cmp set_vma =
        SCMP_A0(SCMP_CMP_EQ, 0x53564d41, 0); /* PR_SET_VMA: names for mappings */
    filter_add(f, SCMP_ACT_ERRNO(EINVAL), "prctl", 1, &set_vma);
    /* AMX tiles: ARCH_GET_XCOMP_SUPP, _GET_PERM, _REQ_PERM */
    for (unsigned op = 0x1021; op <= 0x1023; op++) {
        const struct scmp_arg_cmp xcomp = SCMP_A0(SCMP_CMP_EQ, op, 0);
        filter_add(f, SCMP_ACT_ALLOW, "arch_prctl", 1, &xcomp);
    }
    static const int fcntls[] = {F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC};
    for (size_t i = 0; i < ARRAY_LEN(fcntls); i++) {
        const struct scmp_arg_cmp cmd = SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)fcntls[i], 0);
        filter_add(f, SCMP_ACT_ALLOW, "fcntl", 1, &cmd);
    }
}

#ifdef BERTH_SAN
#define DEFAULT_ACTION SCMP_ACT_ALLOW
static void filter_fill(struct filter *f)
{
    static const char *const refused[] = {"socket", "connect", "bind", "execve", "execveat"};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        filter_add(f, SCMP_ACT_ERRNO(EPERM), refused[i], 0, NULL);
}
#else
#define DEFAULT_ACTION SCMP_ACT_KILL_PROCESS
static void filter_fill(struct filter *f)
{
    for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
        filter_add(f, SCMP_ACT_ALLOW, allowed[i], 0, NULL);
    for (size_t i = 0; i < ARRAY_LEN(denied); i++)
        filter_add(f, SCMP_ACT_ERRNO((unsigned)denied[i].code), denied[i].name, 0, NULL);
    filter_add_conditional(f);
}
#endif

static int seccomp_apply(struct sandbox_report *ret, struct err *err)
{
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0)
        return 0; /* a kernel without */
    struct filter f = {.ctx = seccomp_init(DEFAULT_ACTION)};
    if (!f.ctx)
        return err_set(err, E_INTERNAL, "seccomp filter could not be made");
    /* Other architectures' system call tables (x32, i386) stay closed: the default action for them
     * is to kill. */
    filter_fill(&f);
    if (f.rc == 0)
        f.rc = seccomp_load(f.ctx);
    seccomp_release(f.ctx);
    if (f.rc == -ENOSYS || f.rc == -EINVAL)
        return 0;
    if (f.rc < 0) {
        errno = -f.rc;
        return err_set_sys(err, E_INTERNAL, "seccomp filter");
    }
    ret->has_seccomp = true;
    return 0;
}

static int limit(int what, const char *name, uint64_t value, struct err *err)
{
    struct rlimit r;
    if (getrlimit((__rlimit_resource_t)what, &r) < 0)
        return err_set_sys(err, E_INTERNAL, "getrlimit %s", name);
    r.rlim_max = MIN_OF(r.rlim_max, (rlim_t)value);
    r.rlim_cur = MIN_OF(r.rlim_cur, r.rlim_max);
    if (setrlimit((__rlimit_resource_t)what, &r) < 0)
        return err_set_sys(err, E_INTERNAL, "setrlimit %s", name);
    return 0;
}

static int limits_apply(enum sandbox_profile profile, uint64_t memory_bytes, struct err *err)
{
    int rc = limit(RLIMIT_CORE, "core", 0, err);
    if (rc == 0)
        rc = limit(RLIMIT_NOFILE, "nofile", WORKER_MAX_FDS, err);
    if (rc == 0 && profile == SANDBOX_WORKER)
        rc = limit(RLIMIT_FSIZE, "fsize", 0, err);
#ifndef BERTH_SAN /* their shadow memory alone is terabytes */
    if (rc == 0 && memory_bytes)
        rc = limit(RLIMIT_DATA, "data", memory_bytes, err);
#else
    (void)memory_bytes;
#endif
    return rc;
}

int sandbox_limit_files(uint64_t max_bytes, struct err *err)
{
    return limit(RLIMIT_FSIZE, "fsize", max_bytes, err);
}

void sandbox_limit_memory(uint64_t memory_bytes)
{
#ifndef BERTH_SAN
    struct err err = ERR_INIT;
    int rc = limit(RLIMIT_DATA, "data", memory_bytes, &err);
    (void)rc; /* the earlier limit holds */
#else
    (void)memory_bytes;
#endif
}

/* Run by root, a process would keep root's capabilities, among them that to raise its own limits.
 */
static int capabilities_drop(struct err *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}, {0}};
#ifdef BERTH_SAN
    (void)head;
    (void)none;
    return 0; /* the leak checker traces its own threads */
#endif
    if (syscall(SYS_capset, &head, none) < 0)
        return err_set_sys(err, E_INTERNAL, "capabilities could not be dropped");
    return 0;
}

static void report_print(struct sandbox_report *r)
{
#ifdef BERTH_SAN
    snprintf(r->text, sizeof(r->text),
             "sandbox: relaxed, this is a sanitizer build: only sockets and exec are refused");
#else
    char landlock[64] = "NO Landlock in this kernel";
    if (r->has_landlock)
        snprintf(landlock, sizeof(landlock), "Landlock (ABI %d)", r->landlock_abi);
    snprintf(r->text, sizeof(r->text), "sandbox: %s, %s, no capabilities, resource limits",
             r->has_seccomp ? "seccomp" : "NO seccomp in this kernel", landlock);
#endif
}

int sandbox_apply_self(enum sandbox_profile profile, uint64_t memory_bytes,
                       struct sandbox_report *ret, struct err *err)
{
    *ret = (struct sandbox_report){0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_set_sys(err, E_INTERNAL, "no_new_privs");
    int rc = limits_apply(profile, memory_bytes, err);
    if (rc == 0)
        rc = capabilities_drop(err);
#ifndef BERTH_SAN
    if (rc == 0)
        rc = landlock_apply(ret, err);
#endif
    if (rc == 0)
        rc = seccomp_apply(ret, err);
    report_print(ret);
    return rc;
}
