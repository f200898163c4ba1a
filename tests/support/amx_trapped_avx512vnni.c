/* SPDX-License-Identifier: Apache-2.0 */
/* Implements amx_trapped.h.  Encodings: Intel 64 manual, volume 2, the pages of the instructions
 * and 2.3.5 (VEX). */
#define TILES_EMULATED

#include <signal.h>
#include <ucontext.h>

#include "worker/kernel/x86/amx/tile.h"

#include "tests/support/amx_trapped.h"
#include "tests/support/cmocka_all.h"

static uint64_t count;

/* A VEX instruction of three-byte prefix and map 0F38: its parts. */
struct insn {
    int pp, opcode, mod, reg, rm, vvvv, length;
    const char *mem; /* base + displacement */
    size_t stride;   /* index, scaled */
};

static int64_t gpr(const ucontext_t *u, int n)
{
    static const int at[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                               REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                               REG_R12, REG_R13, REG_R14, REG_R15};
    return u->uc_mcontext.gregs[at[n]];
}

static bool decode(const ucontext_t *u, struct insn *i)
{
    const uint8_t *start = (const uint8_t *)u->uc_mcontext.gregs[REG_RIP], *p = start + 5;
    int32_t disp = 0;
    if (start[0] != 0xc4 || (start[1] & 31) != 2 || start[2] & 0x84)
        return false;
    const int high_x = start[1] & 0x40 ? 0 : 8, high_b = start[1] & 0x20 ? 0 : 8;
    *i = (struct insn){.pp = start[2] & 3,
                       .vvvv = ~start[2] >> 3 & 15,
                       .opcode = start[3],
                       .mod = start[4] >> 6,
                       .reg = start[4] >> 3 & 7,
                       .rm = start[4] & 7};
    if (i->mod != 3) {
        int base = i->rm | high_b;
        if (i->rm == 4) {
            const int sib = *p++, index = (sib >> 3 & 7) | high_x;
            base = (sib & 7) | high_b;
            i->stride = index == 4 ? 0 : (size_t)gpr(u, index) << (sib >> 6);
        }
        if (i->mod == 0 && (base & 7) == 5)
            return false; /* no base, or relative to the instruction: not in our kernels */
        if (i->mod == 1)
            disp = (int8_t)*p++;
        if (i->mod == 2) {
            memcpy(&disp, p, 4);
            p += 4;
        }
        i->mem = (const char *)(gpr(u, base) + disp);
    }
    i->length = (int)(p - start);
    return true;
}

static bool execute(const struct insn *i)
{
    enum { NONE, P66, PF3, PF2 };
    const bool mem = i->mod != 3;
    switch (i->opcode << 4 | i->pp) {
    case 0x49 << 4 | NONE:
        if (mem) {
            struct tile_config c;
            memcpy(&c, i->mem, sizeof(c));
            tiles_config(&tiles, &c);
        } else {
            memset(&tiles, 0xff, sizeof(tiles));
        }
        return true;
    case 0x49 << 4 | PF2: memset(tiles.data[i->reg], 0, sizeof(tiles.data[0])); return !mem;
    case 0x4b << 4 | PF2: tiles_load(&tiles, i->reg, i->mem, i->stride); return mem;
    case 0x4b << 4 | PF3: tiles_store(&tiles, i->reg, (void *)i->mem, i->stride); return mem;
    case 0x5c << 4 | PF3: tiles_dot(&tiles, i->reg, i->rm, i->vvvv); return !mem;
    default: return false;
    }
}

static void on_illegal(int sig, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    struct insn i;
    (void)info;
    if (!decode(u, &i) || !execute(&i)) {
        signal(sig, SIG_DFL); /* it comes again */
        return;
    }
    count++;
    u->uc_mcontext.gregs[REG_RIP] += i.length;
}

void amx_trapped_fill(struct kern *k)
{
    struct sigaction act = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(SIGILL, &act, NULL), 0);
    quant_amx_fill(k);
    panels_amx_fill(k);
    k->level = "amx-trapped";
}

uint64_t amx_trapped_count(void)
{
    return count;
}
