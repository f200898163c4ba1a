/* SPDX-License-Identifier: Apache-2.0 */
/* Logging: one line per call, `time level component: message key=value …`, or one JSON object; to
 * standard error, or to whoever has taken the log (the daemon's own files: daemon/watch).
 *
 * Never log a prompt, an answer, a key or a header.  Whatever a line quotes is made harmless here:
 * no line ends, no control characters, valid UTF-8.  Any thread; a line is one write. */
#ifndef LIB_BASE_LOG_H
#define LIB_BASE_LOG_H

#include "lib/base/compiler.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

#define LOG_LINE_BYTES 2048 /* the longest line, its end included; a longer message is cut */

/* Before other threads start.  component: who speaks when a line names nobody ("serve", "worker").
 */
void log_init(enum log_level level, bool json, const char *component);
bool log_enabled(enum log_level level);
bool log_is_json(void);
/* Now, as lines begin: "2026-01-31T12:00:00.000Z". */
#define LOG_TIME_BYTES 32
void log_time(char out[LOG_TIME_BYTES]);
void log_write(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* What a line says besides its message. */
struct log_field {
    const char *key;  /* of letters and _ */
    const char *text; /* NULL or "": the field is left out, unless it is a number */
    double number;
    bool is_number;
};
#define LOG_TEXT(key, text)                                                                        \
    {                                                                                              \
        (key), (text), 0, false                                                                    \
    }
#define LOG_NUMBER(key, number)                                                                    \
    {                                                                                              \
        (key), NULL, (double)(number), true                                                        \
    }
void log_write_fields(enum log_level level, const struct log_field *fields, size_t n_fields,
                      const char *fmt, ...) PRINTF_LIKE(4, 5);

/* From now on fn gets every line, its end included, instead of standard error; NULL: standard error
 * again.  fn is called on any thread and must not log.  While no other thread logs. */
typedef void (*log_sink_fn)(void *ctx, const char *line, size_t len);
void log_set_sink(log_sink_fn fn, void *ctx);

/* 0 and the level for "error", "warn", "info" or "debug"; -1 otherwise. */
int log_level_parse(const char *s, enum log_level *ret);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
