/* SPDX-License-Identifier: Apache-2.0 */
/* Where the daemon listens, and whether it may.  For serve.c alone, at the start. */
#ifndef DAEMON_LISTEN_H
#define DAEMON_LISTEN_H

#include "daemon/serve.h"
#include "lib/base/buf.h"
#include "lib/net/httpd.h"

struct listening {
    struct httpd_listen items[SD_LISTEN_MAX + 2];
    uint32_t n;
    struct buf hosts; /* comma-separated addresses, for the guard */
    bool any_address; /* one of them is every address of the machine */
    bool is_exposed;  /* other machines reach one of them */
};

/* The service manager's sockets, else host and port; and the Unix socket of the configuration.
 * E_DENIED when other machines would reach a daemon that asks for no key.  Release in any case. */
int listening_init(struct listening *l, const struct daemon_config *cfg, struct err *err) MUST_USE;
void listening_release(struct listening *l);
/* "http://127.0.0.1:12434, unix:/run/berth.sock", once the first TCP port is known. */
void listening_print(const struct listening *l, bool tls, uint16_t port, struct buf *out);

#endif
