/* SPDX-License-Identifier: Apache-2.0 */
/* A client of raw bytes, for tests of the HTTP server.  Nothing waits longer than a minute. */
#ifndef TESTS_SUPPORT_HTTP_CLIENT_H
#define TESTS_SUPPORT_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int client_dial(uint16_t port);          /* a connected descriptor; ends the test when it fails */
int client_dial_unix(const char *path);  /* the same, -1 when nobody answers */
void client_send(int fd, const char *s); /* errors are the reader's to see */
void client_send_bytes(int fd, const void *p, size_t n);
/* What comes until the server closes; then closes fd.  NUL-terminated; free with mem_free.  Ends
 * with
 * "<timeout>" when the server does not close in time, "<reset>" when it resets. */
char *client_read_all(int fd);
/* What comes until text is in it, or the end. */
char *client_read_until(int fd, const char *text);
/* Whether the server closes (or resets) within a minute, without a byte more. */
bool client_sees_end(int fd);
void client_reset(int fd);                              /* closes with a RST */
unsigned client_count(const char *s, const char *part); /* how often part is in s */
void client_wait_ms(unsigned ms);

/* Waits up to a minute. */
#define UNTIL(cond)                                                                                \
    do {                                                                                           \
        for (int tries_ = 0; tries_ < 30000 && !(cond); tries_++)                                  \
            client_wait_ms(2);                                                                     \
        assert_true(cond);                                                                         \
    } while (0)

#endif
