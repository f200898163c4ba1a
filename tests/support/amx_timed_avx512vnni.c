/* SPDX-License-Identifier: Apache-2.0 */
/* The AMX kernels with instructions in place of those on tiles that cost as much, on a core that is
 * the same but for AMX (Sapphire Rapids, and what came of it).  Needs AVX-512 with VNNI.
 *
 * A row of a tile that is loaded or stored is one load or store of 64 bytes.  A product is vdivpd,
 * of a register that each tile of sums has, by ones: one in 16.0 cycles, whatever the other ports
 * do (measured on an Emerald Rapids), as TDPBF16PS of full tiles (Source: Intel's optimisation
 * manual).
 *
 * What differs:
 *   - a product's result is there after 22 cycles, TDPBF16PS's after 52: chains of products on one
 *     tile of sums look better than they are;
 *   - a product does not wait for the tiles that it multiplies, only for its sums;
 *   - every tile has 16 rows of 64 bytes, whatever shape is configured: fewer tokens than 16 look
 *     worse, one beside quantised weights by a tenth and more;
 *   - addresses of rows are the other ports' work, and the compiler has six vector registers less.
 */
#define TILES_REPLACED

#include "worker/kernel/x86/b64_avx512.h"

#include "worker/kernel/x86/load_impl.h"

#include "worker/kernel/x86/panel/panel_impl.h"

#include "worker/kernel/x86/panel/file_impl.h"

#include "worker/kernel/x86/amx/tile.h"

/* Registers 26 to 31 are no one else's in this file (Makefile): 26 takes what is loaded, 27 to 30
 * are the sums of tiles 3 to 0, 31 is ones. */
#define SUMS_0 "%%zmm30"
#define SUMS_1 "%%zmm29"
#define SUMS_2 "%%zmm28"
#define SUMS_3 "%%zmm27"

#define TILES_CONFIG(c)          timed_config(c)
#define TILES_RELEASE()          __asm__ volatile("" : : : "memory")
#define TILE_ZERO(n)             __asm__ volatile("vmovapd %%zmm31, " SUMS_##n : :)
#define TILE_LOAD(n, p, stride)  timed_load((const char *)(p), stride)
#define TILE_STORE(n, p, stride) TIMED_STORE(SUMS_##n, (char *)(p), (size_t)(stride))
#define TILE_DOT_BF16(acc, a, b) __asm__ volatile("vdivpd %%zmm31, " SUMS_##acc ", " SUMS_##acc : :)

#define TIMED_STORE(sums, p, stride)                                                               \
    do {                                                                                           \
        UNROLL                                                                                     \
        for (int i_ = 0; i_ < 16; i_++)                                                            \
            __asm__ volatile("vmovupd " sums ", %0" : "=m"(*(char(*)[64])((p) + i_ * (stride))));  \
    } while (0)

INLINED void timed_config(const struct tile_config *c)
{
    const double one = 1;
    __asm__ volatile("vbroadcastsd %0, %%zmm31\n\t"
                     "vmovapd %%zmm31, " SUMS_0 "\n\t"
                     "vmovapd %%zmm31, " SUMS_1 "\n\t"
                     "vmovapd %%zmm31, " SUMS_2 "\n\t"
                     "vmovapd %%zmm31, " SUMS_3
                     :
                     : "m"(one), "m"(*c));
}

INLINED void timed_load(const char *p, size_t stride)
{
    UNROLL
    for (int i = 0; i < 16; i++)
        __asm__ volatile("vmovupd %0, %%zmm26" : : "m"(*(const char(*)[64])(p + i * stride)));
}

#include "worker/kernel/x86/amx/many_impl.h"

#include "worker/kernel/x86/amx/float_impl.h"

#include "worker/kernel/x86/amx/quant_impl.h"

#include "worker/kernel/x86/amx/rows_impl.h"

#include "worker/kernel/x86/panel/strip_impl.h"

#include "worker/kernel/x86/panel/strip_unpack_impl.h"

#include "worker/kernel/x86/amx/strips_impl.h"

#include "tests/support/amx_timed.h"

void amx_timed_fill(struct kern *k)
{
    amx_fill(k);
    amx_strips_fill(k);
    k->level = "amx-timed";
}
