/* SPDX-License-Identifier: Apache-2.0 */
/* worker/serve/outbox: a daemon that does not read makes writers wait; nothing is lost, nothing
 * grows without bound. */
#include "tests/support/cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "worker/serve/outbox.h"

#define FRAME_BYTES (256u << 10)
#define N_FRAMES    200u

static struct outbox box;
static int far_end;
static atomic_uint n_put;
static atomic_int last_rc;

static void *write_frames(void *ctx)
{
    struct buf b;
    struct err err = ERR_INIT;
    (void)ctx;
    buf_init(&b, FRAME_BYTES);
    for (uint32_t i = 0; i < N_FRAMES; i++) {
        buf_clear(&b);
        while (b.len < FRAME_BYTES)
            buf_append(&b, &i, sizeof(i));
        int rc = outbox_put(&box, MSG_EVENT, &b, true, &err);
        atomic_store(&last_rc, rc);
        if (rc < 0)
            break;
        outbox_flush(&box);
        atomic_fetch_add(&n_put, 1);
    }
    buf_release(&b);
    return NULL;
}

static void box_open(void)
{
    int pair[2];
    struct err err = ERR_INIT;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    far_end = pair[0];
    atomic_store(&n_put, 0);
    atomic_store(&last_rc, 0);
    assert_int_equal(outbox_init(&box, pair[1], &err), 0);
}

static void box_close(void)
{
    close(far_end);
    close(box.fd);
    outbox_release(&box);
}

/* Until the box is full and the writer has come no further for a while. */
static uint32_t wait_until_stuck(void)
{
    uint32_t before = UINT32_MAX;
    bool is_full = false;
    for (int i = 0; i < 300 && (before != atomic_load(&n_put) || !is_full); i++) {
        before = atomic_load(&n_put);
        usleep(100000);
        outbox_is_pending(&box, &is_full);
    }
    return atomic_load(&n_put);
}

/* What the reading thread of a worker does for the outbox. */
static void drain_once(void)
{
    struct pollfd p = {.fd = box.fd, .events = POLLOUT};
    bool is_full;
    if (outbox_is_pending(&box, &is_full) && poll(&p, 1, 0) == 1)
        outbox_flush(&box);
}

static void a_reader_that_sleeps_stops_the_writer_and_loses_nothing(void **state)
{
    (void)state;
    pthread_t t;
    static char bytes[1u << 20];
    struct frame_reader r;
    struct frame f;
    struct err err = ERR_INIT;
    box_open();
    pthread_create(&t, NULL, write_frames, NULL);
    uint32_t n = wait_until_stuck();
    assert_true(n > 0 && n * FRAME_BYTES < (8u << 20)); /* of 50 MiB */
    bool is_full;
    assert_true(outbox_is_pending(&box, &is_full));
    assert_true(is_full);
    frame_reader_init(&r, MSG_TO_DAEMON);
    uint32_t got = 0;
    for (int turn = 0; got < N_FRAMES && turn < 200000; turn++) {
        drain_once();
        ssize_t k = recv(far_end, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (k <= 0) {
            usleep(100);
            continue;
        }
        assert_int_equal(frame_reader_feed(&r, bytes, (size_t)k, &err), 0);
        while (frame_reader_next(&r, &f, &err) == 1) {
            uint32_t first, last;
            assert_int_equal(f.payload.len, FRAME_BYTES);
            memcpy(&first, f.payload.p, sizeof(first));
            memcpy(&last, f.payload.p + FRAME_BYTES - sizeof(last), sizeof(last));
            assert_int_equal(first, got);
            assert_int_equal(last, got);
            got++;
        }
    }
    assert_int_equal(got, N_FRAMES);
    pthread_join(t, NULL);
    assert_false(outbox_is_pending(&box, &is_full));
    frame_reader_release(&r);
    box_close();
}

static void closing_lets_the_writer_go(void **state)
{
    (void)state;
    pthread_t t;
    box_open();
    pthread_create(&t, NULL, write_frames, NULL);
    wait_until_stuck();
    outbox_close(&box);
    pthread_join(t, NULL);
    assert_int_equal(atomic_load(&last_rc), -E_GONE);
    box_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_that_sleeps_stops_the_writer_and_loses_nothing),
        cmocka_unit_test(closing_lets_the_writer_go),
    };
    return cmocka_run_group_tests_name("outbox", tests, NULL, NULL);
}
