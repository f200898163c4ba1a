/* SPDX-License-Identifier: Apache-2.0 */
/* Implements near.h. */
#include "lib/base/near.h"

#include <string.h>

size_t near_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n > NEAR_WORD_BYTES || m > NEAR_WORD_BYTES)
        return NEAR_FAR;
    size_t d[NEAR_WORD_BYTES + 1][NEAR_WORD_BYTES + 1];
    for (size_t i = 0; i <= n; i++) {
        for (size_t j = 0; j <= m; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = MIN_OF(best, MIN_OF(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = MIN_OF(best, d[i - 2][j - 2] + 1);
            d[i][j] = best;
        }
    }
    return d[n][m];
}

const char *near_name(const char *word, const char *const *names, size_t n)
{
    const char *best = NULL;
    size_t best_cost = SIZE_MAX, len = strlen(word);
    for (size_t i = 0; i < n; i++) {
        size_t cost = near_distance(word, names[i]);
        bool is_beginning = len >= 3 && strncmp(word, names[i], len) == 0;
        if (cost < best_cost &&
            (is_beginning || (cost <= len / 3 + 1 && cost < strlen(names[i])))) {
            best_cost = cost;
            best = names[i];
        }
    }
    return best;
}
