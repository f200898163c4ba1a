/* SPDX-License-Identifier: Apache-2.0 */
/* daemon/jobs: who joins, who hears what, who is left when the last one goes. */
#include "tests/support/cmocka_all.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "daemon/jobs/job.h"
#include "lib/base/mem.h"

static atomic_uint n_runs, n_freed;
static atomic_bool may_end;

static int work(struct job *j, void *ctx, struct err *err)
{
    atomic_fetch_add(&n_runs, 1);
    while (!atomic_load(&may_end)) {
        if (!job_tell(j, &(struct job_event){.type = JOB_PROGRESS}))
            return err_set(err, E_CANCELED, "stopped");
        usleep(1000);
    }
    if (ctx && strcmp(ctx, "fail") == 0)
        return err_set(err, E_IO, "it did not work");
    job_tell(j, &(struct job_event){.type = JOB_SUCCESS, .message = "done"});
    return 0;
}

static void freed(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&n_freed, 1);
}

struct ears {
    atomic_uint n_progress, n_success, n_error;
    atomic_int code;
};

static void hear(void *ctx, const struct job_event *e)
{
    struct ears *x = ctx;
    if (e->type == JOB_PROGRESS)
        atomic_fetch_add(&x->n_progress, 1);
    else if (e->type == JOB_SUCCESS)
        atomic_fetch_add(&x->n_success, 1);
    else
        atomic_store(&x->code, e->why->code);
    if (e->type == JOB_ERROR)
        atomic_fetch_add(&x->n_error, 1);
}

static struct job *begin(struct jobs *js, const char *key, void *what, struct ears *x, int want)
{
    struct job *j = NULL;
    struct err err = ERR_INIT;
    const struct job_start s = {
        .key = key, .fn = work, .ctx = what, .ctx_free = freed, .watch = hear, .watcher = x};
    assert_int_equal(jobs_start(js, &s, &j, &err), want);
    if (want < 0)
        assert_null(j); /* nothing to unwatch */
    return j;
}

static void wait_for(atomic_uint *n, unsigned at_least)
{
    for (int i = 0; i < 20000 && atomic_load(n) < at_least; i++)
        usleep(1000);
    assert_true(atomic_load(n) >= at_least);
}

static int setup(void **state)
{
    (void)state;
    atomic_store(&n_runs, 0);
    atomic_store(&n_freed, 0);
    atomic_store(&may_end, false);
    return 0;
}

static void test_join(void **state)
{
    (void)state;
    struct jobs *js = jobs_new(2, 2);
    struct ears a = {0}, b = {0}, c = {0};
    struct job *j = begin(js, "k", NULL, &a, 0);
    wait_for(&a.n_progress, 1);
    assert_ptr_equal(begin(js, "k", NULL, &b, 0), j);
    struct job *other = begin(js, "other", NULL, &c, 0);
    assert_ptr_not_equal(other, j);
    wait_for(&b.n_progress, 1);
    atomic_store(&may_end, true);
    wait_for(&a.n_success, 1);
    wait_for(&b.n_success, 1);
    wait_for(&c.n_success, 1);
    assert_int_equal(atomic_load(&n_runs), 2);
    job_unwatch(j, &a);
    job_unwatch(j, &b);
    struct job *again = begin(js, "k", NULL, &a, 0); /* what has ended is not joined */
    wait_for(&a.n_success, 2);
    job_unwatch(again, &a);
    job_unwatch(other, &c);
    jobs_stop(js);
    begin(js, "late", NULL, &b, -E_STOPPING);
    jobs_free(js);
    assert_int_equal(atomic_load(&n_freed), 5); /* with the joined one's and the refused one's */
}

/* Whoever asks in the very moment of the end hears an end. */
static void test_ask_as_it_ends(void **state)
{
    (void)state;
    struct jobs *js = jobs_new(4, 4);
    atomic_store(&may_end, true);
    for (int i = 0; i < 500; i++) {
        struct ears a = {0}, b = {0};
        struct job *j = begin(js, "k", NULL, &a, 0);
        struct job *k = begin(js, "k", NULL, &b, 0);
        wait_for(&a.n_success, 1);
        wait_for(&b.n_success, 1);
        job_unwatch(j, &a);
        job_unwatch(k, &b);
    }
    jobs_free(js);
    assert_true(atomic_load(&n_freed) >= 500);
}

static void test_last_to_leave(void **state)
{
    (void)state;
    struct jobs *js = jobs_new(1, 1);
    struct ears a = {0}, b = {0}, c = {0};
    struct job *j = begin(js, "k", NULL, &a, 0), *k = begin(js, "k", NULL, &b, 0);
    wait_for(&a.n_progress, 1);
    job_unwatch(j, &a);
    unsigned heard = atomic_load(&b.n_progress);
    wait_for(&b.n_progress, heard + 3); /* it goes on for the other */
    job_unwatch(k, &b);
    struct job *next = begin(js, "k", NULL, &c, 0); /* never the one that stops */
    wait_for(&c.n_progress, 1);
    assert_int_equal(atomic_load(&a.n_error) + atomic_load(&b.n_error), 0);
    job_unwatch(next, &c);
    jobs_free(js);
    assert_int_equal(atomic_load(&n_freed), 3); /* two jobs, and the one that was joined instead */
}

static void test_too_many_and_failures(void **state)
{
    (void)state;
    struct jobs *js = jobs_new(1, 1);
    struct ears a = {0}, b = {0}, c = {0};
    char fail[] = "fail";
    struct job *j = begin(js, NULL, fail, &a, 0), *k = begin(js, NULL, NULL, &b, 0);
    begin(js, NULL, NULL, &c, -E_BUSY);
    assert_int_equal(atomic_load(&n_freed), 1);
    atomic_store(&may_end, true);
    wait_for(&a.n_error, 1);
    wait_for(&b.n_success, 1);
    assert_int_equal(atomic_load(&a.code), E_IO);
    job_unwatch(j, &a);
    job_unwatch(k, &b);
    jobs_free(js);
    assert_int_equal(atomic_load(&n_freed), 3);
}

static void test_stop(void **state)
{
    (void)state;
    struct jobs *js = jobs_new(1, 4);
    struct ears a = {0}, b = {0};
    struct job *j = begin(js, NULL, NULL, &a, 0), *k = begin(js, NULL, NULL, &b, 0);
    wait_for(&a.n_progress, 1);
    jobs_stop(js);
    wait_for(&a.n_error, 1);
    wait_for(&b.n_error, 1); /* that waited */
    assert_int_equal(atomic_load(&a.code), E_STOPPING);
    job_unwatch(j, &a);
    job_unwatch(k, &b);
    jobs_free(js);
    assert_int_equal(atomic_load(&n_freed), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_join, setup),
        cmocka_unit_test_setup(test_ask_as_it_ends, setup),
        cmocka_unit_test_setup(test_last_to_leave, setup),
        cmocka_unit_test_setup(test_too_many_and_failures, setup),
        cmocka_unit_test_setup(test_stop, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
