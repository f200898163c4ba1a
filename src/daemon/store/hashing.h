/* SPDX-License-Identifier: Apache-2.0 */
/* Hashing beside writing: a thread of a large blob's writer takes copies of what is written, so
 * that the one who carries bytes from the network to the disk need not wait for SHA-256 too.
 *
 * One writer's thread calls all of it. */
#ifndef DAEMON_STORE_HASHING_H
#define DAEMON_STORE_HASHING_H

#include "lib/oci/sha256.h"

struct hashing;

/* h is the thread's from now on but between hashing_wait and the next hashing_add.  NULL: there is
 * no thread to be had. */
struct hashing *hashing_start(struct sha256 *h);
void hashing_add(struct hashing *g, const void *p, size_t n);
/* Until h has all that was added. */
void hashing_wait(struct hashing *g);
/* As hashing_wait, and ends; NULL is fine. */
void hashing_stop(struct hashing *g);

#endif
