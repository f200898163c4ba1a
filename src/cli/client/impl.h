/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that implement client.h, and nobody else. */
#ifndef CLI_CLIENT_IMPL_H
#define CLI_CLIENT_IMPL_H

#include "cli/client.h"
#include "lib/net/httpc.h"

#define CLIENT_EVENT_MAX_BYTES (4u << 20) /* one event of a stream, or an error's body */
#define CLIENT_HEADERS_MAX     4u

/* One request on its way: its address, body and headers. */
struct call {
    char url[2048];
    struct buf text, key;
    const char *headers[CLIENT_HEADERS_MAX + 1];
    struct httpc_request rq;
};

/* body may be NULL.  Release with client_call_release, also after a failure. */
int client_call_init(struct call *k, const struct client *c, const char *method, const char *path,
                     const json_t *body, struct err *err) MUST_USE;
void client_call_release(struct call *k);

/* The sentence of an error answer, or the status alone; its negative code. */
int client_refusal(const struct client *c, const char *path, int status, const struct buf *body,
                   struct err *err);

#endif
