/* SPDX-License-Identifier: Apache-2.0 */
/* The paged cache: block tables, reference counts, copies on write, and the invariant after random
 * operations. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "lib/base/mem.h"
#include "worker/engine/kv.h"

#define BLOCK_LEN 4u
#define N_CTX     24u

static struct hparams_layer layers[2] = {{.n_head = 4, .n_head_kv = 2, .n_ff = 1},
                                         {.n_head = 2, .n_head_kv = 1, .n_ff = 1}};
static const struct hparams hp = {.n_layer = 2, .k_dim = 3, .v_dim = 5, .layers = layers};

static void init(struct kv *kv, enum kv_type type, uint32_t n_blocks, uint32_t n_slots)
{
    struct err err = ERR_INIT;
    assert_int_equal(kv_init(kv, &hp, type, BLOCK_LEN, n_blocks, n_slots, N_CTX, &err), 0);
    assert_null(kv_validate(kv));
}

/* Something that tells layer, head, position and owner apart. */
static char mark(uint32_t il, uint32_t h, uint32_t pos, uint32_t who, bool is_v)
{
    return (char)(il * 101 + h * 31 + pos * 7 + who * 53 + is_v);
}

/* The bytes of a position's key in its group: items one lane wide and KV_LANES apart, with the
 * scales of q8_0 in front of each 32. */
static char *key_byte(const struct kv *kv, uint32_t slot, uint32_t il, uint32_t h, uint32_t pos,
                      size_t i)
{
    static const size_t items[KV_N] = {[KV_F32] = 4, [KV_F16] = 2, [KV_BF16] = 2, [KV_Q8_0] = 1};
    const size_t item = items[kv->type];
    char *group = kv_k_group(kv, slot, il, h, pos);
    return group + (i / item * KV_LANES + pos % BLOCK_LEN) * item + i % item;
}

static size_t key_bytes(const struct kv *kv)
{
    return kv->k_group_bytes / KV_LANES;
}

static void write_pos(const struct kv *kv, uint32_t slot, uint32_t pos, uint32_t who)
{
    for (uint32_t il = 0; il < hp.n_layer; il++)
        for (uint32_t h = 0; h < layers[il].n_head_kv; h++) {
            for (size_t i = 0; i < key_bytes(kv); i++)
                *key_byte(kv, slot, il, h, pos, i) = mark(il, h, pos, who, false);
            memset(kv_v_row(kv, slot, il, h, pos), mark(il, h, pos, who, true), kv->v_row_bytes);
        }
}

static void check_pos(const struct kv *kv, uint32_t slot, uint32_t pos, uint32_t who)
{
    for (uint32_t il = 0; il < hp.n_layer; il++)
        for (uint32_t h = 0; h < layers[il].n_head_kv; h++) {
            const char *v = kv_v_row(kv, slot, il, h, pos);
            for (size_t i = 0; i < key_bytes(kv); i++)
                assert_int_equal(*key_byte(kv, slot, il, h, pos, i), mark(il, h, pos, who, false));
            for (size_t i = 0; i < kv->v_row_bytes; i++)
                assert_int_equal(v[i], mark(il, h, pos, who, true));
        }
}

static void test_rows_do_not_overlap(void **state)
{
    (void)state;
    for (int type = 0; type < KV_N; type++) {
        struct kv kv;
        init(&kv, (enum kv_type)type, 12, 2);
        assert_true(kv_try_grow(&kv, 0, N_CTX));
        assert_true(kv_try_grow(&kv, 1, N_CTX));
        for (uint32_t p = 0; p < N_CTX; p++) {
            write_pos(&kv, 0, p, 1);
            write_pos(&kv, 1, p, 2);
        }
        for (uint32_t p = 0; p < N_CTX; p++) {
            check_pos(&kv, 0, p, 1);
            check_pos(&kv, 1, p, 2);
        }
        kv_release(&kv);
    }
}

/* The addresses that kernels compute from struct kern_attn are those of the rows. */
static void test_attn_addresses(void **state)
{
    struct kv kv;
    (void)state;
    init(&kv, KV_F32, 12, 2);
    assert_true(kv_try_grow(&kv, 1, 5));
    assert_true(kv_try_grow(&kv, 0, N_CTX));
    for (uint32_t il = 0; il < hp.n_layer; il++)
        for (uint32_t h = 0; h < layers[il].n_head_kv; h++)
            for (uint32_t p = 0; p < N_CTX; p++) {
                struct kern_attn a = {0};
                kv_fill_attn(&kv, 0, il, h, &a);
                const size_t b = a.block_table[p / a.block_len], r = p % a.block_len;
                assert_ptr_equal(a.k + b * a.k_block_stride_bytes +
                                     r / KV_LANES * a.k_group_stride_bytes,
                                 kv_k_group(&kv, 0, il, h, p));
                assert_ptr_equal(a.v + b * a.v_block_stride_bytes + r * a.v_row_stride_bytes,
                                 kv_v_row(&kv, 0, il, h, p));
            }
    kv_release(&kv);
}

static void test_grow_is_all_or_nothing(void **state)
{
    struct kv kv;
    (void)state;
    init(&kv, KV_F32, 6, 2);
    assert_true(kv_try_grow(&kv, 0, 9)); /* 3 blocks */
    assert_int_equal(kv.n_free, 3);
    assert_true(kv_try_grow(&kv, 0, 12)); /* still 3 */
    assert_int_equal(kv.n_free, 3);
    assert_true(kv_try_grow(&kv, 1, 8));
    assert_false(kv_try_grow(&kv, 1, 17)); /* 5 in all: 3 more, 1 there */
    assert_int_equal(kv.n_free, 1);
    assert_int_equal(kv.seqs[1].n_blocks, 2);
    assert_null(kv_validate(&kv));
    kv_clear(&kv, 0);
    assert_true(kv_try_grow(&kv, 1, 17));
    kv_clear(&kv, 1);
    assert_int_equal(kv.n_free, 6);
    assert_null(kv_validate(&kv));
    kv_release(&kv);
}

static void test_copy_on_write(void **state)
{
    struct kv kv;
    (void)state;
    init(&kv, KV_F16, 4, 3);
    assert_true(kv_try_grow(&kv, 0, 6)); /* block 0 full, block 1 half */
    for (uint32_t p = 0; p < 6; p++)
        write_pos(&kv, 0, p, 1);
    kv_share(&kv, 0, 1, 6);
    assert_int_equal(kv.n_free, 2);
    assert_null(kv_validate(&kv));
    assert_int_equal(kv_own_cost(&kv, 1, 6, 8), 1);
    assert_int_equal(kv_own_cost(&kv, 1, 0, 8), 2);
    assert_int_equal(kv_own_cost(&kv, 1, 8, 8), 0);
    assert_true(kv_try_own(&kv, 1, 6, 7));
    write_pos(&kv, 1, 6, 2);
    write_pos(&kv, 0, 6, 3); /* its own again: no copy needed */
    assert_int_equal(kv_own_cost(&kv, 0, 6, 7), 0);
    for (uint32_t p = 0; p < 6; p++)
        check_pos(&kv, 1, p, 1);
    check_pos(&kv, 1, 6, 2);
    check_pos(&kv, 0, 6, 3);
    assert_ptr_equal(kv_k_group(&kv, 0, 0, 0, 0),
                     kv_k_group(&kv, 1, 0, 0, 0)); /* the full block is still one */
    kv_share(&kv, 0, 2, 7);
    assert_true(kv_try_grow(&kv, 1, 12)); /* the last free block */
    assert_false(kv_try_own(&kv, 2, 5, 7));
    assert_null(kv_validate(&kv));
    kv_clear(&kv, 0);
    assert_true(kv_try_own(&kv, 2, 5, 7)); /* nobody shares it any more */
    check_pos(&kv, 2, 6, 3);
    kv_clear(&kv, 1);
    kv_clear(&kv, 2);
    assert_int_equal(kv.n_free, 4);
    assert_null(kv_validate(&kv));
    kv_release(&kv);
}

static void test_random_operations(void **state)
{
    struct kv kv;
    uint32_t rng = 7, len[5] = {0};
    (void)state;
    init(&kv, KV_F32, 15, 5);
    for (int i = 0; i < 4000; i++) {
        rng = rng * 1664525u + 1013904223u;
        const uint32_t slot = (rng >> 8) % 5, other = (rng >> 12) % 5, n = (rng >> 16) % N_CTX + 1;
        switch ((rng >> 28) % 4) {
        case 0:
            kv_clear(&kv, slot);
            len[slot] = 0;
            break;
        case 1:
            if (slot != other && len[slot] == 0 && len[other] > 0) {
                len[slot] = n % len[other] + 1;
                kv_share(&kv, other, slot, len[slot]);
            }
            break;
        default:
            if (kv_try_own(&kv, slot, len[slot] / 2, len[slot]) && n > len[slot] &&
                kv_try_grow(&kv, slot, n))
                len[slot] = n;
        }
        const char *broken = kv_validate(&kv);
        if (broken)
            print_error("after %d operations: %s\n", i, broken);
        assert_null(broken);
    }
    kv_release(&kv);
}

static void test_validate_sees_damage(void **state)
{
    struct kv kv;
    (void)state;
    init(&kv, KV_F32, 6, 2);
    assert_true(kv_try_grow(&kv, 0, 8));
    kv.refs[kv.seqs[0].blocks[0]]++;
    assert_non_null(kv_validate(&kv));
    kv.refs[kv.seqs[0].blocks[0]]--;
    kv.free_list[0] = kv.free_list[1];
    assert_non_null(kv_validate(&kv));
    kv_release(&kv);
}

static void test_allocation_failures(void **state)
{
    struct kv kv;
    struct err err = ERR_INIT;
    (void)state;
    int r = -1;
    for (long n = 0; r; n++) {
        mem_fault_after(n);
        r = kv_init(&kv, &hp, KV_F32, BLOCK_LEN, 6, 2, N_CTX, &err);
        mem_fault_after(-1);
        assert_true(r == 0 || (r == -E_NOMEM && kv.pool_mem == NULL));
        assert_true(n < 50);
    }
    kv_release(&kv);
}

/* Random texts over few tokens, in a cache too small for them and an index whose buckets all
 * collide: what is found again is always what was written for exactly that beginning. */
static void test_prefixes_under_pressure(void **state)
{
    (void)state;
    enum { SLOTS = 3, TEXT = 24 };
    struct kv kv;
    struct err err = ERR_INIT;
    uint64_t rng = 1;
    int32_t texts[SLOTS][TEXT];
    uint32_t n_found = 0;
    init(&kv, KV_F32, 20, SLOTS);
    assert_int_equal(kv_enable_prefixes(&kv, &err), 0);
    kv.prefix.n_buckets = 1; /* every lookup meets every block */
    for (int round = 0; round < 3000; round++) {
        const uint32_t slot = (uint32_t)round % SLOTS;
        const uint64_t salt = (uint64_t)round / 7 % 2;
        kv_clear(&kv, slot);
        for (uint32_t i = 0; i < TEXT; i++) {
            rng = rng * 6364136223846793005u + 1442695040888963407u;
            texts[slot][i] = (int32_t)(rng >> 62 & (i % 5 == 0));
        }
        const struct kv_tokens t = {texts[slot], texts[slot] + 10, 10};
        uint32_t have = BLOCK_LEN * kv_attach(&kv, slot, salt, &t, TEXT / BLOCK_LEN);
        n_found += have > 0;
        /* a position's mark is a function of the text up to it */
        uint32_t who = (uint32_t)salt;
        const uint32_t n = have < TEXT - 5 ? TEXT - 5 + (uint32_t)round % 6 : TEXT;
        if (!kv_try_grow(&kv, slot, n)) {
            kv_clear(&kv, slot);
            continue;
        }
        for (uint32_t i = 0; i < n; i++) {
            who = who * 31 + (uint32_t)texts[slot][i] + 1;
            if (i < have)
                check_pos(&kv, slot, i, who);
            else
                write_pos(&kv, slot, i, who);
        }
        kv_publish(&kv, slot, &t, n);
        const char *broken = kv_validate(&kv);
        if (broken)
            fail_msg("round %d: %s", round, broken);
    }
    assert_true(n_found > 1000);
    for (uint32_t i = 0; i < SLOTS; i++)
        kv_clear(&kv, i);
    assert_int_equal(kv_n_free(&kv), 20);
    assert_true(kv.prefix.n_idle > 0);
    assert_null(kv_validate(&kv));
    kv_release(&kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_do_not_overlap),
        cmocka_unit_test(test_attn_addresses),
        cmocka_unit_test(test_grow_is_all_or_nothing),
        cmocka_unit_test(test_copy_on_write),
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_validate_sees_damage),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_prefixes_under_pressure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
