/* SPDX-License-Identifier: Apache-2.0 */
/* What a service manager tells us and wants to be told: sd_listen_fds(3), sd_notify(3) and
 * sd_watchdog_enabled(3), without their library.
 *
 * The environment is read once, by sd_init, before other threads exist; without a service manager
 * everything here does nothing.  sd_notify: any thread. */
#ifndef LIB_SYS_SD_H
#define LIB_SYS_SD_H

#include "lib/base/err.h"

#define SD_LISTEN_MAX 14u

struct sd {
    int fds[SD_LISTEN_MAX]; /* listening sockets; the caller's to close, close-on-exec */
    uint32_t n_fds;
    uint32_t watchdog_ms;      /* WATCHDOG=1 is wanted more often than that; 0: not at all */
    char notify_path[108 + 1]; /* "" without; "@..." is an abstract name */
};

/* E_INVALID when what was passed are not listening stream sockets, or too many of them. */
int sd_init(struct sd *ret, struct err *err) MUST_USE;
/* Sends lines such as "READY=1\nSTATUS=..."; what cannot be sent is lost. */
void sd_notify(const struct sd *sd, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
