/* SPDX-License-Identifier: Apache-2.0 */
/* Implements err.h and BUG_ON's last words. */
#include "lib/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bug_die(const char *file, int line, const char *cond)
{
    fprintf(stderr, "berth: bug at %s:%d: %s\n", file, line, cond);
    abort();
}

size_t err_utf8_len(const unsigned char *s)
{
    size_t n = s[0] < 0x80                   ? 1
               : s[0] >= 0xC2 && s[0] < 0xE0 ? 2
               : s[0] >= 0xE0 && s[0] < 0xF0 ? 3
               : s[0] >= 0xF0 && s[0] < 0xF5 ? 4
                                             : 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    }
    return n;
}

void err_sanitize(struct err *err)
{
    unsigned char *s = (unsigned char *)err->msg;
    while (*s) {
        size_t n = err_utf8_len(s);
        if (n == 0 || *s < 0x20 || *s == 0x7F || (n == 2 && s[0] == 0xC2 && s[1] < 0xA0)) {
            for (size_t i = 0; i < (n ? n : 1); i++)
                s[i] = '?';
            n = n ? n : 1;
        }
        s += n;
    }
}

PRINTF_LIKE(4, 0)
static int set_message(struct err *err, enum err_code code, int sys, const char *fmt, va_list ap)
{
    err->code = code;
    err->sys = sys;
    vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    if (sys) {
        size_t used = strlen(err->msg);
        snprintf(err->msg + used, sizeof(err->msg) - used, ": %s", strerror(sys));
    }
    err_sanitize(err);
    return -(int)code;
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int ret = set_message(err, code, 0, fmt, ap);
    va_end(ap);
    return ret;
}

int err_set_sys(struct err *err, enum err_code code, const char *fmt, ...)
{
    int sys = errno;
    va_list ap;
    va_start(ap, fmt);
    int ret = set_message(err, code, sys, fmt, ap);
    va_end(ap);
    return ret;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    char context[ERR_MSG_MAX];
    char joined[2 * ERR_MSG_MAX + 2];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(context, sizeof(context), fmt, ap);
    va_end(ap);
    snprintf(joined, sizeof(joined), "%s: %s", context, err->msg);
    memcpy(err->msg, joined, sizeof(err->msg) - 1);
    err->msg[sizeof(err->msg) - 1] = '\0';
    err_sanitize(err);
    return -err->code;
}

static const char *const code_names[E_N_CODES] = {
    [E_OK] = "ok",
    [E_INVALID] = "invalid",
    [E_FORMAT] = "format",
    [E_LIMIT] = "limit",
    [E_NOMEM] = "no_memory",
    [E_NOTFOUND] = "not_found",
    [E_EXISTS] = "exists",
    [E_UNSUPPORTED] = "unsupported",
    [E_IO] = "io",
    [E_NET] = "net",
    [E_TIMEOUT] = "timeout",
    [E_BUSY] = "busy",
    [E_CANCELED] = "canceled",
    [E_CORRUPT] = "corrupt",
    [E_AUTH] = "auth",
    [E_DENIED] = "denied",
    [E_GONE] = "gone",
    [E_CONTEXT] = "context",
    [E_INTERNAL] = "internal",
    [E_BROKEN] = "broken",
    [E_STOPPING] = "stopping",
    [E_UNLOADED] = "unloaded",
};

const char *err_code_name(int code)
{
    return code >= 0 && code < E_N_CODES ? code_names[code] : "unknown";
}
