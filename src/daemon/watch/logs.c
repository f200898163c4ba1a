/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's log: every line goes to a ring in memory, which GET /logs reads, and to the log file
 * or standard error.  See internal.h and watch.h.
 *
 * Whoever logs must not wait for whoever reads: the ring overwrites, the file drops, and standard
 * error, which may be a pipe that nobody empties, is asked first whether it takes a line. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "daemon/watch/internal.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/sys/log_file.h"

#define DEFAULT_FILE_BYTES (10u << 20)
#define DEFAULT_FILES      3u
#define TEXT_MAX_BYTES     (16u << 10)
#define STDERR_WAIT_MS     100

static char *ring_at(struct logs *l, uint64_t pos)
{
    return l->ring + pos % LOGS_RING_BYTES;
}

/* Bytes from pos on that lie in one piece. */
static size_t ring_piece(uint64_t pos, uint64_t n)
{
    return (size_t)MIN_OF(n, LOGS_RING_BYTES - pos % LOGS_RING_BYTES);
}

/* Where the line after pos begins; there is one that ends. */
static uint64_t line_after(struct logs *l, uint64_t pos)
{
    for (;;) {
        size_t n = ring_piece(pos, l->end - pos);
        const char *nl = memchr(ring_at(l, pos), '\n', n);
        if (nl)
            return pos + (uint64_t)(nl - ring_at(l, pos)) + 1;
        BUG_ON(n == 0); /* the ring has whole lines */
        pos += n;
    }
}

static void ring_put(struct logs *l, const char *line, size_t len)
{
    pthread_mutex_lock(&l->ring_lock);
    while (l->end - l->begin + len > LOGS_RING_BYTES)
        l->begin = line_after(l, l->begin);
    while (len > 0) {
        size_t n = ring_piece(l->end, len);
        memcpy(ring_at(l, l->end), line, n);
        l->end += n;
        line += n;
        len -= n;
    }
    pthread_mutex_unlock(&l->ring_lock);
}

/* A pipe that poll calls writable has room for PIPE_BUF bytes, more than a line is. */
static void stderr_put(struct logs *l, const char *line, size_t len)
{
    struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};
    pthread_mutex_lock(&l->stderr_lock);
    int rc;
    do {
        rc = poll(&fd, 1, l->is_stalled ? 0 : STDERR_WAIT_MS);
    } while (rc < 0 && errno == EINTR);
    bool is_done =
        rc > 0 && (fd.revents & POLLOUT) && write(STDERR_FILENO, line, len) == (ssize_t)len;
    l->is_stalled = !is_done;
    pthread_mutex_unlock(&l->stderr_lock);
    if (!is_done)
        atomic_fetch_add(&l->n_dropped, 1);
}

static void on_line(void *ctx, const char *line, size_t len)
{
    struct logs *l = ctx;
    ring_put(l, line, len);
    if (l->file)
        log_file_write(l->file, line, len);
    else
        stderr_put(l, line, len);
}

/* Where somebody may see it: the log itself is what fails.  The ring still works. */
static void on_trouble(void *ctx, const struct err *why)
{
    struct logs *l = ctx;
    char stamp[LOG_TIME_BYTES], line[ERR_MSG_MAX + 128];
    log_time(stamp);
    int n = snprintf(line, sizeof(line), "%s error serve: log lines are being lost: %s\n", stamp,
                     why->msg);
    stderr_put(l, line, (size_t)n);
}

static int file_open(struct logs *l, const struct watch_config *cfg, struct err *err)
{
    const struct log_file_config fc = {.path = cfg->log_path,
                                       .max_bytes = cfg->log_file_bytes ? cfg->log_file_bytes
                                                                        : DEFAULT_FILE_BYTES,
                                       .n_files = cfg->log_files ? cfg->log_files : DEFAULT_FILES,
                                       .is_private = cfg->log_prompts,
                                       .on_trouble = on_trouble,
                                       .ctx = l};
    return log_file_open(&fc, &l->file, err);
}

int logs_open(struct logs *l, const struct watch_config *cfg, struct err *err)
{
    bool has_file = cfg->log_path && cfg->log_path[0];
    pthread_mutex_init(&l->ring_lock, NULL);
    pthread_mutex_init(&l->stderr_lock, NULL);
    if (cfg->log_prompts && !has_file)
        return err_set(err, E_INVALID,
                       "log-prompts needs log-file: prompts are written to a file that only its "
                       "owner may read, and nowhere else");
    int rc = has_file ? file_open(l, cfg, err) : 0;
    if (rc < 0)
        return rc;
    l->ring = mem_alloc(LOGS_RING_BYTES);
    log_set_sink(on_line, l);
    l->has_prompts = cfg->log_prompts && log_enabled(LOG_LEVEL_DEBUG);
    if (l->has_prompts)
        log_warn("log-prompts is on: prompts and answers are written to the log file");
    else if (cfg->log_prompts)
        log_warn("log-prompts does nothing: the log level is not debug");
    return 0;
}

void logs_close(struct logs *l)
{
    if (l->ring)
        log_set_sink(NULL, NULL);
    log_file_close(l->file);
    mem_free(l->ring);
    pthread_mutex_destroy(&l->stderr_lock);
    pthread_mutex_destroy(&l->ring_lock);
}

uint64_t logs_dropped(struct logs *l)
{
    return atomic_load(&l->n_dropped) + (l->file ? log_file_dropped(l->file) : 0);
}

bool watch_wants_text(const struct watch *w)
{
    return w->logs.has_prompts;
}

void watch_text(struct watch *w, const char *request_id, const char *what, struct str text)
{
    struct buf line;
    char stamp[LOG_TIME_BYTES];
    bool is_json = log_is_json();
    if (!watch_wants_text(w))
        return;
    log_time(stamp);
    buf_init(&line, 8 * (size_t)TEXT_MAX_BYTES);
    if (is_json)
        buf_printf(
            &line,
            "{\"time\":\"%s\",\"level\":\"debug\",\"component\":\"serve\",\"request_id\":", stamp);
    else
        buf_printf(&line, "%s debug serve: %s request_id=", stamp, what);
    json_put_str(&line, str_from(request_id));
    buf_printf(&line,
               is_json ? ",\"bytes\":%zu,\"msg\":\"%s\",\"text\":" : " bytes=%zu text=", text.len,
               is_json ? what : "");
    json_put_str(&line, (struct str){text.p, MIN_OF(text.len, (size_t)TEXT_MAX_BYTES)});
    buf_append_str(&line, is_json ? "}\n" : "\n");
    if (!line.failed)
        log_file_write(w->logs.file, line.data, line.len);
    buf_release(&line);
}

uint64_t watch_log_tail(struct watch *w, uint32_t n_lines)
{
    struct logs *l = &w->logs;
    pthread_mutex_lock(&l->ring_lock);
    uint64_t pos = l->end;
    /* Back over n_lines line ends, the log's last one not counted. */
    for (uint32_t seen = 0; n_lines && pos > l->begin; pos--) {
        if (pos < l->end && *ring_at(l, pos - 1) == '\n' && ++seen == n_lines)
            break;
    }
    pthread_mutex_unlock(&l->ring_lock);
    return pos;
}

uint64_t watch_log_read(struct watch *w, uint64_t *pos, size_t max, struct buf *out)
{
    struct logs *l = &w->logs;
    uint64_t missed = 0;
    pthread_mutex_lock(&l->ring_lock);
    if (*pos < l->begin) {
        missed = l->begin - *pos;
        *pos = l->begin;
    }
    for (uint64_t left = MIN_OF(l->end - *pos, (uint64_t)max); left > 0;) {
        size_t n = ring_piece(*pos, left);
        if (buf_append(out, ring_at(l, *pos), n) < 0)
            break;
        *pos += n;
        left -= n;
    }
    pthread_mutex_unlock(&l->ring_lock);
    return missed;
}
