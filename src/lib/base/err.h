/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: a code that callers act on and a sentence that a person reads.
 *
 * Every function that can fail because of something outside the program takes a `struct err *`
 * last, returns 0 or a negative err_code, and writes the sentence itself: what, where, why and,
 * where it can, how to mend it. Callers prefix context on the way up with err_wrap().  The err
 * lives on the caller's stack, owns nothing, needs no freeing, and is untouched on success.  Never
 * NULL.
 *
 * HTTP statuses and exit codes are mapped from codes in daemon/api and cli alone. */
#ifndef LIB_BASE_ERR_H
#define LIB_BASE_ERR_H

#include "lib/base/compiler.h"

enum err_code {
    E_OK = 0,
    E_INVALID,     /* the caller's parameter or request is wrong */
    E_FORMAT,      /* a file or message breaks its format */
    E_LIMIT,       /* well-formed, but larger than a stated limit */
    E_NOMEM,       /* memory could not be had */
    E_NOTFOUND,    /* the named thing does not exist */
    E_EXISTS,      /* it exists already */
    E_UNSUPPORTED, /* well-formed and understood, not implemented here */
    E_IO,          /* the system refused a read, write or map */
    E_NET,         /* a connection failed */
    E_TIMEOUT,     /* a deadline passed */
    E_BUSY,        /* no room now; the same call may succeed later */
    E_CANCELED,    /* the one who asked has left */
    E_CORRUPT,     /* bytes differ from their digest or checksum */
    E_AUTH,        /* who are you? */
    E_DENIED,      /* known, and not allowed */
    E_GONE,        /* the process or peer that worked on it died */
    E_CONTEXT,     /* the prompt does not fit the context length */
    E_INTERNAL,    /* our own fault, caught */
    E_BROKEN,      /* it failed again and again, and is not tried for a while */
    E_STOPPING,    /* the daemon is about to end and takes nothing new */
    E_UNLOADED,    /* the model it ran on was ended by somebody's wish, not by a fault */
    E_N_CODES
};

#define ERR_MSG_MAX 512

struct err {
    int code;              /* enum err_code, positive */
    int sys;               /* errno at the time, or 0 */
    char msg[ERR_MSG_MAX]; /* one sentence, valid UTF-8, no newline, no final stop needed */
};

/* An err that says nothing yet.  Reading msg of an untouched err gives "". */
#define ERR_INIT                                                                                   \
    {                                                                                              \
        0, 0, ""                                                                                   \
    }

/* Writes code and sentence; returns -code, so that `return err_set(...)` reads well. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* As err_set, with ": strerror(errno)" appended and errno kept in err->sys. */
int err_set_sys(struct err *err, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Puts "context: " before the sentence; returns -err->code. */
int err_wrap(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* "format", "not_found" …: stable lower-case names for logs and JSON; "unknown" for a bad code. */
const char *err_code_name(int code);

/* Replaces every byte of msg that could end a line, move a terminal's cursor or break UTF-8 by '?'.
 * Called by err_set and err_wrap themselves: quoted names from hostile files stay harmless. */
void err_sanitize(struct err *err);
/* Length of the UTF-8 sequence at s (1-4), or 0 if there is none; of a NUL-terminated string. */
size_t err_utf8_len(const unsigned char *s);

#endif
