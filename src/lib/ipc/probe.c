/* SPDX-License-Identifier: Apache-2.0 */
/* Implements probe.h: one PROBE to the worker with the descriptors beside it, one FACTS or
 * LOAD_FAILED back.  docs/PROTOCOL-ipc.md. */
#include "lib/ipc/probe.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/ipc/frame.h"
#include "lib/sys/spawn.h"

struct probe {
    int fd;
    struct child child;
    uint64_t deadline_ms;
    struct frame_reader in;
};

static bool has_ending(const char *s, const char *ending)
{
    size_t n = strlen(s), len = strlen(ending);
    return n >= len && strcasecmp(s + n - len, ending) == 0;
}

bool probe_wants(const char *name)
{
    return has_ending(name, ".gguf") || has_ending(name, ".dduf") ||
           has_ending(name, ".safetensors") || has_ending(name, ".safetensors.index.json") ||
           strcmp(name, "config.json") == 0;
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Until the socket can be used; E_TIMEOUT. */
static int await(const struct probe *p, short events, struct err *err)
{
    for (;;) {
        uint64_t now = now_ms();
        struct pollfd pfd = {.fd = p->fd, .events = events};
        if (now >= p->deadline_ms)
            return err_set(err, E_TIMEOUT, "reading the model took more than %u seconds",
                           PROBE_TIMEOUT_MS / 1000);
        int n = poll(&pfd, 1, (int)(p->deadline_ms - now));
        if (n < 0 && errno != EINTR)
            return err_set_sys(err, E_INTERNAL, "poll");
        if (n > 0)
            return 0;
    }
}

/* ---- starting and ending ---- */

static int start(struct probe *p, struct err *err)
{
    char memory[24];
    int pair[2];
    snprintf(memory, sizeof(memory), "%llu", (unsigned long long)PROBE_MEMORY_BYTES);
    const char *const argv[] = {"berth", "worker", "--probe", memory, NULL};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_set_sys(err, E_IO, "socketpair for a worker");
    const struct spawn_config cfg = {
        .argv = argv, .stderr_fd = STDERR_FILENO, .frames_fd = pair[1]};
    int rc = spawn_self(&cfg, &p->child, err);
    close(pair[1]);
    if (rc < 0) {
        close(pair[0]);
        return rc;
    }
    p->fd = pair[0];
    return 0;
}

/* Waits for its end, which comes by itself or is brought about; how it ended. */
static struct child_end finish(struct probe *p)
{
    struct child_end end = {0};
    struct pollfd pfd = {.fd = p->child.pidfd, .events = POLLIN};
    close(p->fd);
    if (poll(&pfd, 1, 1000) <= 0)
        child_kill(&p->child, SIGKILL);
    while (!child_reap(&p->child, &end))
        poll(&pfd, 1, 100);
    close(p->child.pidfd);
    frame_reader_release(&p->in);
    return end;
}

/* ---- the exchange ---- */

static int request_make(const struct probe_file *files, uint32_t n, struct buf *out,
                        struct err *err)
{
    struct buf payload;
    buf_init(&payload, LIMIT_MSG_SMALL_BYTES);
    put_u32(&payload, n);
    for (uint32_t i = 0; i < n; i++)
        put_str(&payload, str_from(files[i].name));
    int rc = buf_status(&payload, "message PROBE", err);
    if (rc == 0)
        rc = frame_write(out, MSG_PROBE, payload.data, payload.len, err);
    buf_release(&payload);
    return rc;
}

static int request_send(const struct probe *p, const struct probe_file *files, uint32_t n,
                        const struct buf *out, struct err *err)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(LIMIT_MSG_FDS * sizeof(int))];
    } control = {0};
    for (size_t at = 0; at < out->len;) {
        struct iovec iov = {out->data + at, out->len - at};
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
        if (at == 0) { /* with the first bytes */
            m.msg_control = &control;
            m.msg_controllen = CMSG_SPACE(n * sizeof(int));
            struct cmsghdr *c = CMSG_FIRSTHDR(&m);
            c->cmsg_len = CMSG_LEN(n * sizeof(int));
            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            for (uint32_t i = 0; i < n; i++)
                memcpy(CMSG_DATA(c) + i * sizeof(int), &files[i].fd, sizeof(int));
        }
        ssize_t sent = sendmsg(p->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            if (await(p, POLLOUT, err) < 0)
                return -err->code;
        } else if (sent < 0 && errno != EINTR) {
            return err_set_sys(err, E_GONE, "asking a worker");
        }
        at += sent > 0 ? (size_t)sent : 0;
    }
    return 0;
}

/* The next frame: 1; 0 when the worker has closed its end. */
static int answer_read(struct probe *p, struct frame *ret, struct err *err)
{
    char bytes[16384];
    for (;;) {
        int rc = frame_reader_next(&p->in, ret, err);
        if (rc != 0)
            return rc;
        rc = await(p, POLLIN, err);
        if (rc < 0)
            return rc;
        ssize_t n = recv(p->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return 0;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return err_set_sys(err, E_GONE, "hearing a worker");
        if (n > 0 && frame_reader_feed(&p->in, bytes, (size_t)n, err) < 0)
            return -err->code;
    }
}

/* ---- the answer ---- */

static int word_take(const json_t *root, const char *name, struct arena *a, const char **ret,
                     struct err *err)
{
    struct str s = STR_LIT("");
    int rc = json_field_str(root, name, &s, err);
    *ret = rc < 0 ? NULL : arena_try_dup(a, s.p, s.len, err);
    return *ret ? 0 : -err->code;
}

static int metadata_take(const json_t *root, struct arena *a, struct probe_facts *ret,
                         struct err *err)
{
    const json_t *map = NULL;
    const char *key;
    json_t *v;
    int rc = json_field_obj(root, "metadata", &map, err);
    if (rc < 1)
        return rc;
    ret->metadata =
        arena_try_alloc(a, MAX_OF(json_object_size(map), 1) * sizeof(*ret->metadata), err);
    if (!ret->metadata)
        return -err->code;
    json_object_foreach((json_t *)(uintptr_t)map, key, v)
    {
        struct probe_pair *p = &ret->metadata[ret->n_metadata];
        if (!json_is_string(v))
            return err_set(err, E_FORMAT, "'metadata' holds %s", json_kind(v));
        p->key = arena_try_dup(a, key, strlen(key), err);
        p->value = arena_try_dup(a, json_string_value(v), json_string_length(v), err);
        if (!p->key || !p->value)
            return -err->code;
        ret->n_metadata++;
    }
    return 0;
}

static int facts_take(struct str text, struct arena *a, struct probe_facts *ret, struct err *err)
{
    static const char *const formats[] = {"gguf", "safetensors", "dduf"};
    int64_t n_params = 0, n_bytes = 0, context = 0;
    json_t *root = NULL;
    bool known = false;
    *ret = (struct probe_facts){0};
    int rc = json_parse(text, &root, err);
    if (rc == 0)
        rc = word_take(root, "format", a, &ret->format, err);
    if (rc == 0)
        rc = word_take(root, "architecture", a, &ret->architecture, err);
    if (rc == 0)
        rc = word_take(root, "quantization", a, &ret->quantization, err);
    if (rc == 0)
        rc = json_field_int(root, "parameters", 0, INT64_MAX, &n_params, err);
    if (rc >= 0)
        rc = json_field_int(root, "bytes", 0, INT64_MAX, &n_bytes, err);
    if (rc >= 0)
        rc = json_field_int(root, "context_size", 0, INT32_MAX, &context, err);
    if (rc >= 0)
        rc = metadata_take(root, a, ret, err);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(formats); i++)
        known = known || strcmp(ret->format, formats[i]) == 0;
    if (rc == 0 && !known)
        rc = err_set(err, E_FORMAT, "'format' is none that was asked for");
    json_decref(root);
    ret->n_params = (uint64_t)n_params;
    ret->weight_bytes = (uint64_t)n_bytes;
    ret->context_size = (uint32_t)context;
    return rc < 0 ? err_wrap(err, "a worker's answer") : 0;
}

/* The worker's refusal, as its own error. */
static int refusal_take(struct str payload, struct err *err)
{
    struct cursor c = {.p = payload.p, .left = payload.len};
    uint32_t code = 0;
    struct str message = STR_LIT("");
    if (!get_u32(&c, &code) || !get_str(&c, ERR_MSG_MAX, &message) || c.left || code == E_OK ||
        code >= E_N_CODES)
        return err_set(err, E_FORMAT, "a worker's answer is malformed");
    return err_set(err, (enum err_code)code, "%.*s", STR_ARG(message));
}

static int exchange(struct probe *p, const struct probe_file *files, uint32_t n, struct arena *a,
                    struct probe_facts *ret, struct err *err)
{
    struct buf out;
    struct frame f;
    buf_init(&out, 2 * LIMIT_MSG_SMALL_BYTES);
    int rc = request_make(files, n, &out, err);
    if (rc == 0)
        rc = request_send(p, files, n, &out, err);
    buf_release(&out);
    if (rc == 0)
        rc = answer_read(p, &f, err);
    if (rc == 0)
        return err_set(err, E_GONE, "the worker that read the model");
    if (rc < 0)
        return rc;
    if (f.type == MSG_FACTS)
        return facts_take(f.payload, a, ret, err);
    return f.type == MSG_LOAD_FAILED
               ? refusal_take(f.payload, err)
               : err_set(err, E_FORMAT, "a worker answers with %s", msg_name(f.type));
}

int probe_run(const struct probe_file *files, uint32_t n, struct arena *a, struct probe_facts *ret,
              struct err *err)
{
    struct probe p = {.fd = -1, .deadline_ms = now_ms() + PROBE_TIMEOUT_MS};
    struct probe_file chosen[LIMIT_MSG_FDS];
    uint32_t n_chosen = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!probe_wants(files[i].name))
            continue;
        if (n_chosen == LIMIT_MSG_FDS)
            return err_set(err, E_LIMIT, "the model has more than %u files of weights",
                           LIMIT_MSG_FDS);
        chosen[n_chosen++] = files[i];
    }
    if (n_chosen == 0)
        return err_set(err, E_UNSUPPORTED,
                       "there are no weights that berth knows: no .gguf, .safetensors or .dduf");
    int rc = start(&p, err);
    if (rc < 0)
        return rc;
    frame_reader_init(&p.in, MSG_TO_DAEMON);
    rc = exchange(&p, chosen, n_chosen, a, ret, err);
    if (rc < 0 && rc != -E_GONE)
        child_kill(&p.child, SIGKILL);
    struct child_end end = finish(&p);
    if (rc == -E_GONE) {
        char how[64];
        child_end_print(&end, how, sizeof(how));
        rc = err_set(err, E_GONE, "the worker that read the model's files %s", how);
    }
    return rc;
}
