/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP server for tests of lib/net/httpd.h, which does what a request's path asks for:
 * /later, /stream: kept for the test to answer; /stream-now: 1,000 bytes at once; /refused:
 * answered by on_headers; /big: a body of 32 MiB; the rest: method, path, query and body. */
#ifndef TESTS_SUPPORT_HTTP_SERVER_H
#define TESTS_SUPPORT_HTTP_SERVER_H

#include <stdatomic.h>

#include "lib/net/httpd.h"
#include "tests/support/http_client.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define LAST      "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

struct http_server {
    struct httpd *h;
    uint16_t port;
    _Atomic(struct httpd_request *) kept;
    atomic_uint n_gone, n_quiet, n_later, n_done, n_complete, n_left;
    atomic_int last_status;
};

/* Ends the test when it does not start; httpd_stop(s->h) ends it.  cfg: what differs from httpd's
 * own; where it listens and its callbacks are set here. */
void server_start(struct http_server *s, struct httpd_config cfg);
struct httpd_stats server_stats(struct http_server *s);
/* The request that /later or /stream kept; the caller's to unref. */
struct httpd_request *server_kept(struct http_server *s);
/* Sends text, expects the whole of what comes back to hold wanted, n times. */
void server_expect(struct http_server *s, const char *text, const char *wanted, unsigned n);
/* For httpd_on_gone, httpd_run_later and another server's on_request; ctx: the struct http_server.
 */
void server_count_gone(void *ctx);
void server_count_later(void *ctx);
void server_on_request(void *ctx, struct httpd_request *r);

#endif
