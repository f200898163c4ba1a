/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log: who asked which bytes with which parameters, and what came of it.  See internal.h.
 *
 * A line is one write to a file opened for appending, so that lines stay whole whoever else
 * appends; it is not synced.  When it cannot be written the request is answered all the same: the
 * loss is counted (berth_audit_lines_dropped_total) and told on the log, once until it works again.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/watch/internal.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

#define LINE_MAX_BYTES (64u << 10)

static int open_file(const char *path, struct err *err)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    struct stat st;
    if (fd < 0)
        return err_set_sys(err, E_IO, "opening the audit log %.300s", path);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return err_set(err, E_INVALID, "the audit log %.300s is not a regular file", path);
    }
    return fd;
}

int audit_open(struct audit *a, const char *path, struct err *err)
{
    pthread_mutex_init(&a->lock, NULL);
    a->fd = -1;
    if (!path || !path[0])
        return 0;
    a->path = mem_dup(path, strlen(path));
    a->fd = open_file(path, err);
    return MIN_OF(a->fd, 0);
}

int audit_reopen(struct audit *a, struct err *err)
{
    if (!a->path)
        return 0;
    int fd = open_file(a->path, err);
    if (fd < 0)
        return fd;
    pthread_mutex_lock(&a->lock);
    close(a->fd);
    a->fd = fd;
    pthread_mutex_unlock(&a->lock);
    return 0;
}

void audit_close(struct audit *a)
{
    if (a->fd >= 0)
        close(a->fd);
    a->fd = -1;
    mem_free(a->path);
    pthread_mutex_destroy(&a->lock);
}

static void put_text(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, ",\"%s\":", name);
    json_put_str(out, str_from(text ? text : ""));
}

static void put_params(struct buf *out, const struct gen_params *p)
{
    buf_printf(out,
               ",\"params\":{\"max_tokens\":%u,\"min_tokens\":%u,\"n\":%u,\"seed\":", p->max_tokens,
               p->min_tokens, p->n);
    if (p->has_seed) /* signed, as the API reads it */
        buf_printf(out, "%lld", (long long)p->seed);
    else
        buf_append_str(out, "null");
    const struct {
        const char *name;
        float value;
    } numbers[] = {{"temperature", p->temperature},
                   {"top_p", p->top_p},
                   {"min_p", p->min_p},
                   {"repetition_penalty", p->repetition_penalty},
                   {"presence_penalty", p->presence_penalty},
                   {"frequency_penalty", p->frequency_penalty}};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        buf_printf(out, ",\"%s\":", numbers[i].name);
        json_put_float(out, numbers[i].value);
    }
    buf_printf(out,
               ",\"top_k\":%u,\"ignore_eos\":%s,\"logprobs\":%s,\"top_logprobs\":%u,\"echo\":%s,"
               "\"include_stop_str_in_output\":%s,\"skip_special_tokens\":%s}",
               p->top_k, p->ignore_eos ? "true" : "false", p->want_logprobs ? "true" : "false",
               p->top_logprobs, p->echo ? "true" : "false", p->include_stop ? "true" : "false",
               p->show_special ? "false" : "true");
}

static void put_ms(struct buf *out, const char *name, double ms)
{
    buf_printf(out, ",\"%s\":%.3f", name, ms);
}

static void put_line(struct buf *out, const struct watch_record *rec)
{
    char stamp[LOG_TIME_BYTES];
    log_time(stamp);
    buf_printf(out, "{\"time\":\"%s\"", stamp);
    put_text(out, "request_id", rec->request_id);
    put_text(out, "api", rec->api);
    put_text(out, "key", rec->key);
    put_text(out, "model", rec->model);
    put_text(out, "model_digest", rec->digest);
    put_text(out, "fingerprint", rec->fingerprint);
    if (rec->params)
        put_params(out, rec->params);
    buf_printf(out,
               ",\"stream\":%s,\"prompts\":%u,\"prompt_tokens\":%u,\"cached_tokens\":%u,"
               "\"generated_tokens\":%u",
               rec->stream ? "true" : "false", rec->n_prompts, rec->n_prompt, rec->n_cached,
               rec->n_generated);
    put_ms(out, "queue_ms", rec->queue_ms);
    put_ms(out, "prefill_ms", rec->prefill_ms);
    put_ms(out, "decode_ms", rec->decode_ms);
    put_ms(out, "ttft_ms", rec->ttft_ms);
    put_ms(out, "total_ms", rec->total_ms);
    buf_printf(out, ",\"status\":%d", rec->status);
    put_text(out, "code", rec->code);
    put_text(out, "berth", BERTH_VERSION);
    buf_append_str(out, "}\n");
}

/* 0, or -1 with errno; a line of which only a part found room is taken back. */
static int append_line(int fd, const struct buf *line)
{
    ssize_t n = write(fd, line->data, line->len);
    if (n == (ssize_t)line->len)
        return 0;
    if (n < 0)
        return -1;
    off_t end = lseek(fd, 0, SEEK_END);
    if (end < n || ftruncate(fd, end - n) < 0)
        return -1;
    errno = ENOSPC;
    return -1;
}

static void put_change(struct buf *out, const struct watch_change *c)
{
    char stamp[LOG_TIME_BYTES];
    log_time(stamp);
    buf_printf(out, "{\"time\":\"%s\"", stamp);
    put_text(out, "request_id", c->request_id);
    put_text(out, "api", "store");
    put_text(out, "operation", c->action);
    put_text(out, "key", c->key);
    put_text(out, "model", c->model);
    put_text(out, "model_digest", c->digest);
    buf_printf(out, ",\"bytes\":%llu", (unsigned long long)c->bytes);
    put_ms(out, "total_ms", c->total_ms);
    put_text(out, "code", c->code);
    put_text(out, "berth", BERTH_VERSION);
    buf_append_str(out, "}\n");
}

/* Releases line. */
static void append(struct audit *a, struct buf *line)
{
    struct err err = ERR_INIT;
    int rc = buf_status(line, "an audit line", &err);
    pthread_mutex_lock(&a->lock);
    if (rc == 0 && append_line(a->fd, line) < 0)
        rc = err_set_sys(&err, E_IO, "writing it");
    bool tell = rc < 0 && !a->has_told;
    a->has_told = rc < 0;
    pthread_mutex_unlock(&a->lock);
    if (rc < 0)
        atomic_fetch_add(&a->n_dropped, 1);
    if (tell)
        log_error("audit lines are being lost, and requests go on: %s", err.msg);
    buf_release(line);
}

void audit_write(struct audit *a, const struct watch_record *rec)
{
    struct buf line;
    if (!a->path)
        return;
    buf_init(&line, LINE_MAX_BYTES);
    put_line(&line, rec);
    append(a, &line);
}

void audit_change(struct audit *a, const struct watch_change *c)
{
    struct buf line;
    if (!a->path)
        return;
    buf_init(&line, LINE_MAX_BYTES);
    put_change(&line, c);
    append(a, &line);
}
