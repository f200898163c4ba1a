/* SPDX-License-Identifier: Apache-2.0 */
/* Implements log.h: formats into a stack line and writes it at once to standard error. */
#include "lib/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_BYTES 2048

static enum log_level max_level = LOG_LEVEL_WARN;
static bool as_json;
static const char *who = "berth";
static const char *const level_names[] = {"error", "warn", "info", "debug"};

void log_init(enum log_level level, bool json, const char *component)
{
    max_level = level;
    as_json = json;
    who = component;
}

bool log_enabled(enum log_level level)
{
    return level <= max_level;
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

/* Copies msg, with what could break a line (or a JSON string) escaped; returns bytes written (< n).
 */
static size_t copy_escaped(char *out, size_t n, const char *msg, bool json)
{
    size_t len = 0;
    for (const unsigned char *s = (const unsigned char *)msg; *s && len + 7 < n; s++) {
        if (*s < 0x20 || *s == 0x7F)
            len += (size_t)snprintf(out + len, n - len, json ? "\\u%04x" : "\\x%02x", *s);
        else if (json && (*s == '"' || *s == '\\'))
            len += (size_t)snprintf(out + len, n - len, "\\%c", *s);
        else
            out[len++] = (char)*s;
    }
    out[len] = '\0';
    return len;
}

void log_write(enum log_level level, const char *fmt, ...)
{
    if (!log_enabled(level))
        return;
    int saved = errno;
    char msg[LOG_LINE_BYTES / 2], line[LOG_LINE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    char stamp[32];
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
    size_t len = (size_t)snprintf(
        line, sizeof(line),
        as_json ? "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"component\":\"%s\",\"msg\":\""
                : "%s.%03ldZ %s %s: ",
        stamp, ts.tv_nsec / 1000000, level_names[level], who);
    len += copy_escaped(line + len, sizeof(line) - len - 4, msg, as_json);
    if (as_json) {
        memcpy(line + len, "\"}", 2);
        len += 2;
    }
    line[len++] = '\n';
    ssize_t done = write(STDERR_FILENO, line, len);
    (void)done; /* nowhere to complain to */
    errno = saved;
}
