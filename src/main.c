/* SPDX-License-Identifier: Apache-2.0 */
/* One binary, three roles: `berth worker` is a worker, `berth serve` the daemon, everything else the command line. */
#include <stdio.h>

int main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("berth " BERTH_VERSION);
    return 0;
}
