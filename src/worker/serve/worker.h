/* SPDX-License-Identifier: Apache-2.0 */
/* The worker role: `berth worker NAME`, started by the daemon with its end of a socketpair as
 * descriptor 3 and the log pipe as standard error.  Returns the exit status; called by main()
 * before anything else was set up. */
#ifndef WORKER_SERVE_WORKER_H
#define WORKER_SERVE_WORKER_H

#include "lib/base/compiler.h"

int worker_main(int argc, char **argv);

#endif
