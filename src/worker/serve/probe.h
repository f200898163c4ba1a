/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's shortest role: what a model is, told once over the socket fd.  Called with the
 * sandbox entered.  E_FORMAT for a violation of docs/PROTOCOL-ipc.md, E_GONE when nobody listens;
 * a file that cannot be read is an answer, not a failure. */
#ifndef WORKER_SERVE_PROBE_H
#define WORKER_SERVE_PROBE_H

#include "lib/base/err.h"

int worker_probe(int fd, struct err *err) MUST_USE;

#endif
