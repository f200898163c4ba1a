/* SPDX-License-Identifier: Apache-2.0 */
/* How much memory this process and its children may have: the machine's, or less where a control
 * group says so (memory.max of version 2, memory.limit_in_bytes of version 1, of the own group and
 * those above it).  A stated bound, not what happens to be free.  Any thread. */
#ifndef LIB_SYS_MEMORY_H
#define LIB_SYS_MEMORY_H

#include <stdint.h>

uint64_t memory_limit_bytes(void);
/* The same for tests: where /proc/self/cgroup and /sys/fs/cgroup are.  UINT64_MAX: no limit. */
uint64_t memory_cgroup_bytes(const char *self_cgroup, const char *cgroup_root);
/* Processes that the kernel has killed for lack of memory since it booted; 0: not known. */
uint64_t memory_oom_kills(void);

#endif
