/* SPDX-License-Identifier: Apache-2.0 */
/* Implements interrupt.h: the handler writes a byte into a pipe. */
#include "cli/chat/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static int fds[2] = {-1, -1};
static void (*at_end)(void);

static void on_interrupt(int signo)
{
    int e = errno;
    (void)signo;
    ssize_t done = write(fds[1], "", 1);
    (void)done;
    errno = e;
}

static void on_end(int signo)
{
    at_end();
    signal(signo, SIG_DFL); /* the signal is delivered again when the handler returns */
    raise(signo);
}

int interrupt_start(struct err *err)
{
    if (fds[0] < 0 && pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_set_sys(err, E_IO, "making a pipe");
    struct sigaction sa = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &sa, NULL);
    return 0;
}

int interrupt_fd(void)
{
    return fds[0];
}

bool interrupt_take(void)
{
    char bytes[16];
    bool came = false;
    while (read(fds[0], bytes, sizeof(bytes)) > 0)
        came = true;
    return came;
}

void interrupt_at_end(void (*fn)(void))
{
    struct sigaction sa = {.sa_handler = on_end};
    static const int signals[] = {SIGTERM, SIGHUP, SIGQUIT};
    at_end = fn;
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        sigaction(signals[i], &sa, NULL);
}
