/* SPDX-License-Identifier: Apache-2.0 */
/* Implements digest.h. */
#include "daemon/runner/digest.h"

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/oci/sha256.h"
#include "lib/sys/file.h"

#define READ_BYTES      (1u << 20)
#define CACHE_MAX_BYTES (16u << 20)
#define KEY_BYTES       160u

/* One model to hash. */
struct digest_job {
    struct digest_job *next;
    uint64_t id;
    digest_fn fn;
    void *ctx;
    uint32_t n;
    char **paths;            /* [n], owned */
    char (*keys)[KEY_BYTES]; /* [n], owned: what the files were when they were opened */
};

struct lane {
    struct digests *d;
    pthread_t thread;
    bool is_started, is_idle_class;
    struct digest_job *first, **last;
    pthread_cond_t for_work;
};

struct digests {
    pthread_mutex_t lock;
    char *path;    /* of the cache; NULL: none is kept */
    json_t *known; /* key to digest, under lock */
    struct lane small, large;
    atomic_bool is_closing;
};

static void key_print(const struct stat *st, char out[KEY_BYTES])
{
    snprintf(out, KEY_BYTES, "%llu:%llu:%llu:%lld.%09ld:%lld.%09ld", (unsigned long long)st->st_dev,
             (unsigned long long)st->st_ino, (unsigned long long)st->st_size,
             (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, (long long)st->st_ctim.tv_sec,
             st->st_ctim.tv_nsec);
}

_Static_assert(DIGEST_BYTES > SHA256_STRING_CHARS, "a digest fits");

/* The first size bytes of fd, which are all: a file of /proc has none, and reading on would wait
 * for the kernel.  False when it cannot be read or the daemon ends. */
static bool hash_fd(struct digests *d, int fd, off_t size, char out[DIGEST_BYTES])
{
    struct sha256 h;
    char *bytes = mem_alloc(READ_BYTES);
    bool ok = true;
    ssize_t n = 1;
    sha256_init(&h);
    for (off_t at = 0; ok && n > 0 && at < size; at += n) {
        n = pread(fd, bytes, (size_t)MIN_OF((off_t)READ_BYTES, size - at), at);
        ok = n >= 0 && !atomic_load(&d->is_closing);
        sha256_add(&h, bytes, (size_t)MAX_OF(n, 0));
    }
    mem_free(bytes);
    if (ok)
        sha256_end(&h, out);
    return ok;
}

/* A file that is not, or after reading is no longer, what it was has no digest. */
static bool hash_path(struct digests *d, const char *path, const char *key, char out[DIGEST_BYTES])
{
    struct stat st;
    char now[KEY_BYTES] = "";
    /* By now a pipe may stand there: opening must not wait for who writes to it. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    bool ok = fd >= 0 && fstat(fd, &st) == 0;
    if (ok)
        key_print(&st, now);
    ok = ok && strcmp(now, key) == 0 && hash_fd(d, fd, st.st_size, out) && fstat(fd, &st) == 0;
    if (ok)
        key_print(&st, now);
    ok = ok && strcmp(now, key) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* --- the cache
 * --------------------------------------------------------------------------------------------------------
 */

static bool known_get(struct digests *d, const char *key, char out[DIGEST_BYTES])
{
    pthread_mutex_lock(&d->lock);
    const char *v = json_string_value(json_object_get(d->known, key));
    bool is_known = v && strlen(v) == SHA256_STRING_CHARS;
    if (is_known)
        snprintf(out, DIGEST_BYTES, "%s", v);
    pthread_mutex_unlock(&d->lock);
    return is_known;
}

static void known_put(struct digests *d, const char *key, const char *digest)
{
    struct buf b;
    struct err err = ERR_INIT;
    buf_init(&b, CACHE_MAX_BYTES);
    pthread_mutex_lock(&d->lock);
    json_object_set_new(d->known, key, json_string(digest));
    json_put_value(&b, d->known);
    buf_append_char(&b, '\n');
    if (d->path && !b.failed && file_write_whole(d->path, b.data, b.len, &err) < 0)
        log_warn("digests are not kept: %s", err.msg);
    pthread_mutex_unlock(&d->lock);
    buf_release(&b);
}

static void known_read(struct digests *d)
{
    struct buf text;
    struct err err = ERR_INIT;
    json_t *root = NULL;
    int rc = file_read_regular(d->path, CACHE_MAX_BYTES, &text, &err);
    if (rc == 0)
        rc = json_parse((struct str){buf_str(&text), text.len}, &root, &err);
    buf_release(&text);
    if (rc == 0 && json_is_object(root)) {
        json_decref(d->known);
        d->known = root;
        return;
    }
    json_decref(root);
    if (rc != -E_NOTFOUND)
        log_warn("%s is begun anew: %s", d->path, rc < 0 ? err.msg : "it is not an object");
}

/* --- the threads
 * ------------------------------------------------------------------------------------------------------
 */

static void job_free(struct digest_job *j)
{
    for (uint32_t i = 0; i < j->n; i++)
        mem_free(j->paths[i]);
    mem_free(j->paths);
    mem_free(j->keys);
    mem_free(j);
}

/* Of one file its own; of several, that of the list. */
static void join(char (*each)[DIGEST_BYTES], uint32_t n, char out[DIGEST_BYTES])
{
    if (n == 1) {
        memcpy(out, each[0], DIGEST_BYTES);
        return;
    }
    struct sha256 h;
    sha256_init(&h);
    for (uint32_t i = 0; i < n; i++) {
        sha256_add(&h, each[i], strlen(each[i]));
        sha256_add(&h, "\n", 1);
    }
    sha256_end(&h, out);
}

static void job_run(struct digests *d, const struct digest_job *j)
{
    char out[DIGEST_BYTES] = "";
    char(*each)[DIGEST_BYTES] = mem_alloc((size_t)j->n * DIGEST_BYTES);
    bool ok = true;
    for (uint32_t i = 0; ok && i < j->n; i++) {
        if (known_get(d, j->keys[i], each[i]))
            continue;
        ok = hash_path(d, j->paths[i], j->keys[i], each[i]);
        if (ok)
            known_put(d, j->keys[i], each[i]);
    }
    if (ok)
        join(each, j->n, out);
    mem_free(each);
    if (!atomic_load(&d->is_closing))
        j->fn(j->ctx, j->id, out);
}

static void *lane_main(void *ctx)
{
    struct lane *l = ctx;
    struct digests *d = l->d;
    if (l->is_idle_class) {
        pid_t tid = (pid_t)syscall(SYS_gettid);
        setpriority(PRIO_PROCESS, (id_t)tid, 19);
        syscall(SYS_ioprio_set, 1 /* this thread */, tid, 3 << 13 /* idle class */);
    }
    pthread_mutex_lock(&d->lock);
    while (!atomic_load(&d->is_closing)) {
        struct digest_job *j = l->first;
        if (!j) {
            pthread_cond_wait(&l->for_work, &d->lock);
            continue;
        }
        l->first = j->next;
        if (!l->first)
            l->last = &l->first;
        pthread_mutex_unlock(&d->lock);
        job_run(d, j);
        job_free(j);
        pthread_mutex_lock(&d->lock);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

/* Under the lock.  Signals are the main thread's. */
static bool lane_push(struct lane *l, struct digest_job *j)
{
    if (!l->is_started) {
        sigset_t all, old;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        l->is_started = pthread_create(&l->thread, NULL, lane_main, l) == 0;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    if (!l->is_started)
        return false;
    *l->last = j;
    l->last = &j->next;
    pthread_cond_signal(&l->for_work);
    return true;
}

static void lane_init(struct lane *l, struct digests *d, bool is_idle_class)
{
    *l = (struct lane){.d = d, .is_idle_class = is_idle_class};
    l->last = &l->first;
    pthread_cond_init(&l->for_work, NULL);
}

static void lane_end(struct lane *l)
{
    if (l->is_started)
        pthread_join(l->thread, NULL);
    while (l->first) {
        struct digest_job *j = l->first;
        l->first = j->next;
        job_free(j);
    }
    pthread_cond_destroy(&l->for_work);
}

struct digests *digests_open(const char *dir)
{
    struct digests *d = mem_alloc(sizeof(*d));
    pthread_mutex_init(&d->lock, NULL);
    d->known = json_object();
    lane_init(&d->small, d, false);
    lane_init(&d->large, d, true);
    atomic_init(&d->is_closing, false);
    if (!dir || !dir[0])
        return d;
    struct err why = ERR_INIT;
    if (file_make_dirs(dir, &why) < 0) { /* a cache: a daemon without a home works, too */
        log_warn("digests of models will not be kept across restarts: %s", why.msg);
        return d;
    }
    struct buf b;
    buf_init(&b, 8192);
    buf_printf(&b, "%s/digests.json", dir);
    d->path = buf_take(&b);
    known_read(d);
    return d;
}

void digests_close(struct digests *d)
{
    if (!d)
        return;
    pthread_mutex_lock(&d->lock);
    atomic_store(&d->is_closing, true);
    pthread_cond_broadcast(&d->small.for_work);
    pthread_cond_broadcast(&d->large.for_work);
    pthread_mutex_unlock(&d->lock);
    lane_end(&d->small);
    lane_end(&d->large);
    pthread_mutex_destroy(&d->lock);
    json_decref(d->known);
    mem_free(d->path);
    mem_free(d);
}

int digests_get(struct digests *d, const struct model_files *files, uint64_t id, digest_fn fn,
                void *ctx, char ret[DIGEST_BYTES], bool *ret_is_small)
{
    struct digest_job *j = mem_alloc(sizeof(*j));
    char(*each)[DIGEST_BYTES] = mem_alloc((size_t)files->n * DIGEST_BYTES);
    uint64_t bytes = 0;
    bool is_known = files->n > 0, ok = files->n > 0;
    *j = (struct digest_job){.id = id, .fn = fn, .ctx = ctx};
    j->paths = mem_alloc(files->n * sizeof(*j->paths));
    j->keys = mem_alloc((size_t)files->n * KEY_BYTES);
    for (uint32_t i = 0; i < files->n; i++) {
        struct stat st;
        ok = ok && fstat(files->fds[i], &st) == 0;
        if (!ok)
            break;
        j->paths[j->n] = mem_dup(files->paths[i], strlen(files->paths[i]));
        key_print(&st, j->keys[j->n++]);
        bytes += (uint64_t)st.st_size;
        is_known = is_known && known_get(d, j->keys[i], each[i]);
    }
    *ret_is_small = ok && bytes <= DIGEST_SMALL_BYTES;
    ret[0] = '\0';
    if (ok && is_known)
        join(each, j->n, ret);
    bool is_queued = false;
    if (ok && !is_known) {
        pthread_mutex_lock(&d->lock);
        is_queued = lane_push(*ret_is_small ? &d->small : &d->large, j);
        pthread_mutex_unlock(&d->lock);
    }
    mem_free(each);
    if (!is_queued)
        job_free(j);
    return is_queued ? 0 : 1; /* 1 with "": there will be none */
}

bool digests_known(struct digests *d, const struct model_files *files, char ret[DIGEST_BYTES])
{
    char(*each)[DIGEST_BYTES] = mem_alloc((size_t)files->n * DIGEST_BYTES);
    bool is_known = files->n > 0;
    for (uint32_t i = 0; is_known && i < files->n; i++) {
        struct stat st;
        char key[KEY_BYTES];
        is_known = fstat(files->fds[i], &st) == 0;
        if (is_known)
            key_print(&st, key);
        is_known = is_known && known_get(d, key, each[i]);
    }
    if (is_known)
        join(each, files->n, ret);
    mem_free(each);
    return is_known;
}
