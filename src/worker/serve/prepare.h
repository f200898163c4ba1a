/* SPDX-License-Identifier: Apache-2.0 */
/* A short role of the worker: the weights of a model in the kernels' own layout (engine.h), written
 * to the last descriptor that came with the one PREPARE on the socket fd.  Called with the sandbox
 * entered.  E_FORMAT for a violation of docs/PROTOCOL-ipc.md, E_GONE when nobody listens; a model
 * that cannot be read is an answer, not a failure. */
#ifndef WORKER_SERVE_PREPARE_H
#define WORKER_SERVE_PREPARE_H

#include "lib/base/err.h"

#define PREPARE_NICE 10 /* beside answers under way it gets the tenth part of a processor */

int worker_prepare(int fd, struct err *err) MUST_USE;

#endif
