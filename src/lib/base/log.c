/* SPDX-License-Identifier: Apache-2.0 */
/* Implements log.h: formats into a stack line and hands it on at once. */
#include "lib/base/log.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/err.h"

static enum log_level max_level = LOG_LEVEL_WARN;
static bool as_json;
static const char *who = "berth";
static log_sink_fn sink;
static void *sink_ctx;
static const char *const level_names[] = {"error", "warn", "info", "debug"};

/* A line as it grows: puts that do not fit leave their rest out.  Room for the end is kept. */
struct line {
    char text[LOG_LINE_BYTES];
    size_t len;
};
#define MESSAGE_ROOM 256                  /* fields leave so much to the message */
#define LINE_ROOM    (LOG_LINE_BYTES - 4) /* quote, brace, line end, and snprintf's NUL */

void log_init(enum log_level level, bool json, const char *component)
{
    max_level = level;
    as_json = json;
    who = component;
}

void log_set_sink(log_sink_fn fn, void *ctx)
{
    sink = fn;
    sink_ctx = ctx;
}

bool log_enabled(enum log_level level)
{
    return level <= max_level;
}

bool log_is_json(void)
{
    return as_json;
}

int log_level_parse(const char *s, enum log_level *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(s, level_names[i]) == 0) {
            *ret = (enum log_level)i;
            return 0;
        }
    }
    return -1;
}

static bool put(struct line *l, const char *s, size_t n)
{
    if (n > LINE_ROOM - l->len)
        return false;
    memcpy(l->text + l->len, s, n);
    l->len += n;
    return true;
}

static bool put_str(struct line *l, const char *s)
{
    return put(l, s, strlen(s));
}

/* s with what could break a line or a JSON string escaped; quoted: it stands in quotes.  False when
 * it did not fit; what did is there. */
static bool put_escaped(struct line *l, const char *text, bool quoted)
{
    size_t n;
    for (const unsigned char *s = (const unsigned char *)text; *s; s += n ? n : 1) {
        char escape[8];
        bool ok;
        n = err_utf8_len(s);
        if (n == 0) {
            ok = put(l, "?", 1);
        } else if (*s < 0x20 || *s == 0x7F || (*s == 0xC2 && s[1] < 0xA0)) { /* C0, DEL, C1 */
            snprintf(escape, sizeof(escape), as_json ? "\\u%04x" : "\\x%02x", n == 2 ? s[1] : *s);
            ok = put_str(l, escape);
        } else if (quoted && (*s == '"' || *s == '\\')) {
            ok = put(l, (char[]){'\\', (char)*s}, 2);
        } else {
            ok = put(l, (const char *)s, n);
        }
        if (!ok)
            return false;
    }
    return true;
}

static bool put_number(struct line *l, double v)
{
    char text[40];
    if (!(fabs(v) < 1e15))
        v = 0; /* no figure of ours */
    snprintf(text, sizeof(text), v == floor(v) ? "%.0f" : "%.3f", v);
    return put_str(l, text);
}

/* A field whole, or nothing of it: half a field is no JSON. */
static void put_field(struct line *l, const struct log_field *f)
{
    size_t begin = l->len;
    bool has_text = f->text && *f->text;
    if (!has_text && !f->is_number)
        return;
    bool quoted = !f->is_number && (as_json || f->text[strcspn(f->text, " \"=\\")]);
    const char *quote = quoted ? "\"" : "";
    bool fits = put_str(l, as_json ? ",\"" : " ") && put_str(l, f->key) &&
                put_str(l, as_json ? "\":" : "=") && put_str(l, quote) &&
                (f->is_number ? put_number(l, f->number) : put_escaped(l, f->text, quoted)) &&
                put_str(l, quote);
    if (!fits || l->len > LINE_ROOM - MESSAGE_ROOM)
        l->len = begin;
}

void log_time(char out[LOG_TIME_BYTES])
{
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(out, LOG_TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, LOG_TIME_BYTES - n, ".%03ldZ", ts.tv_nsec / 1000000);
}

static void begin_line(struct line *l, enum log_level level)
{
    char stamp[LOG_TIME_BYTES], head[128];
    log_time(stamp);
    snprintf(head, sizeof(head),
             as_json ? "{\"time\":\"%s\",\"level\":\"%s\",\"component\":\"%s\"" : "%s %s %s: ",
             stamp, level_names[level], who);
    put_str(l, head);
}

static void hand_on(const char *line, size_t len)
{
    if (sink) {
        sink(sink_ctx, line, len);
        return;
    }
    ssize_t done = write(STDERR_FILENO, line, len);
    (void)done; /* nowhere to complain to */
}

PRINTF_LIKE(4, 0)
static void write_line(enum log_level level, const struct log_field *fields, size_t n_fields,
                       const char *fmt, va_list ap)
{
    int saved = errno;
    char msg[LOG_LINE_BYTES / 2];
    struct line l;
    l.len = 0;
    vsnprintf(msg, sizeof(msg), fmt, ap);
    begin_line(&l, level);
    /* JSON has the fields first, so that a long message cannot take their room. */
    for (size_t i = 0; as_json && i < n_fields; i++)
        put_field(&l, &fields[i]);
    put_str(&l, as_json ? ",\"msg\":\"" : "");
    put_escaped(&l, msg, as_json);
    for (size_t i = 0; !as_json && i < n_fields; i++)
        put_field(&l, &fields[i]);
    memcpy(l.text + l.len, as_json ? "\"}\n" : "\n", as_json ? 3 : 1);
    l.len += as_json ? 3 : 1;
    hand_on(l.text, l.len);
    errno = saved;
}

void log_write(enum log_level level, const char *fmt, ...)
{
    if (!log_enabled(level))
        return;
    va_list ap;
    va_start(ap, fmt);
    write_line(level, NULL, 0, fmt, ap);
    va_end(ap);
}

void log_write_fields(enum log_level level, const struct log_field *fields, size_t n_fields,
                      const char *fmt, ...)
{
    if (!log_enabled(level))
        return;
    va_list ap;
    va_start(ap, fmt);
    write_line(level, fields, n_fields, fmt, ap);
    va_end(ap);
}
