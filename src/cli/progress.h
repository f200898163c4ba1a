/* SPDX-License-Identifier: Apache-2.0 */
/* What takes longer than half a second, on standard error: a bar (or, while no total is known, the
 * time) in one line of a terminal, erased at the end; a plain line now and then elsewhere.  Main
 * thread. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "lib/base/compiler.h"

struct progress {
    char what[256]; /* "loading stories" */
    bool is_terminal, has_color;
    bool is_shown;        /* there is a line to erase */
    uint64_t done, total; /* bytes, or whatever has a share; total 0: unknown */
    int64_t began_ms, shown_ms;
    unsigned n_shown;
};

void progress_begin(struct progress *p, const char *what, bool has_color);
/* How far it is; what may be NULL: unchanged. */
void progress_set(struct progress *p, const char *what, uint64_t done, uint64_t total);
/* To be called every 100 ms or so; shows what is to be shown. */
void progress_tick(struct progress *p);
void progress_end(struct progress *p);

/* The pieces of it, for others that show how far something is. */
int64_t progress_now_ms(void); /* monotonic */
/* The terminal at fd; 80 by 24 where it does not say. */
int progress_columns(int fd);
int progress_lines(int fd);
/* "[####....]" of width places, in ret[width + 3]; end: the last full place of a bar that has not
 * ended. */
void progress_bar(uint64_t done, uint64_t total, int width, char full, char end, char rest,
                  char *ret);

#endif
