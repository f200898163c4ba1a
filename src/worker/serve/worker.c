/* SPDX-License-Identifier: Apache-2.0 */
/* Implements worker.h.  The loop itself lands next: until then a worker says so and ends. */
#include "worker/serve/worker.h"

#include "lib/base/log.h"

int worker_main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    log_error("this build has no worker yet");
    return 70;
}
