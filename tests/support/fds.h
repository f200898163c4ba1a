/* SPDX-License-Identifier: Apache-2.0 */
/* How many descriptors this process has open, for tests that something leaves none behind. */
#ifndef TESTS_SUPPORT_FDS_H
#define TESTS_SUPPORT_FDS_H

#include <stddef.h>

/* Counts alike each time, the one it opens itself included; 0 when /proc cannot be read. */
size_t fds_count(void);

#endif
