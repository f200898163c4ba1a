/* SPDX-License-Identifier: Apache-2.0 */
/* Implements text.h. */
#include "cli/docker/text.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/commands.h"
#include "cli/artifact/artifact.h"

/* Units and roundings of docker's own "ago" (go-units, HumanDuration). */
const char *docker_span(int64_t s, char ret[32])
{
    int64_t minutes = s / 60, hours = (s + 1800) / 3600;
    if (s < 1)
        snprintf(ret, 32, "Less than a second");
    else if (s == 1)
        snprintf(ret, 32, "1 second");
    else if (s < 60)
        snprintf(ret, 32, "%lld seconds", (long long)s);
    else if (minutes == 1)
        snprintf(ret, 32, "About a minute");
    else if (minutes < 60)
        snprintf(ret, 32, "%lld minutes", (long long)minutes);
    else if (hours == 1)
        snprintf(ret, 32, "About an hour");
    else if (hours < 48)
        snprintf(ret, 32, "%lld hours", (long long)hours);
    else if (hours < 24 * 14)
        snprintf(ret, 32, "%lld days", (long long)hours / 24);
    else if (hours < 24 * 60)
        snprintf(ret, 32, "%lld weeks", (long long)hours / 24 / 7);
    else if (hours < 24 * 365 * 2)
        snprintf(ret, 32, "%lld months", (long long)hours / 24 / 30);
    else
        snprintf(ret, 32, "%lld years", (long long)hours / 24 / 365);
    return ret;
}

static int to_stdout(const char *s, size_t n, void *ctx)
{
    (void)ctx;
    return fwrite(s, 1, n, stdout) == n ? 0 : -1;
}

void docker_print_json(const json_t *j)
{
    json_dump_callback(j, to_stdout, NULL, JSON_INDENT(4));
    putchar('\n');
}

const char *docker_time(int64_t unix_s, char ret[32])
{
    struct tm tm;
    time_t t = (time_t)unix_s;
    ret[0] = '\0';
    if (gmtime_r(&t, &tm))
        strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return ret;
}

static void put_next(void)
{
    fputs("\nWhat's next:\n"
          "    Start the daemon → berth serve\n"
          "    Run it as a service → systemctl enable --now berth.socket\n",
          stderr);
}

int docker_not_running(const struct client *c)
{
    fputs("Docker Model Runner is not running. Please start it and try again.\n", stderr);
    fprintf(stderr, "(nothing answers on %s)\n", client_place(c));
    put_next();
    return CLI_FAILED;
}

bool docker_client(const struct cli_args *a, bool quietly, struct client *ret)
{
    struct err err = ERR_INIT;
    if (client_init(ret, &a->config, &err) < 0) {
        cli_fail(&err);
        return false;
    }
    ret->is_quiet = quietly;
    if (client_ensure(ret, &err) == 0)
        return true;
    struct err other = ERR_INIT;
    if (client_probe(ret, &other) == 0)
        docker_not_running(ret);
    else
        cli_fail(&err);
    return false;
}

int docker_probe(const struct cli_args *a, struct client *ret)
{
    struct err err = ERR_INIT;
    int there = client_init(ret, &a->config, &err);
    if (there == 0)
        there = client_probe(ret, &err);
    if (there < 0)
        cli_fail(&err);
    return there < 0 ? -1 : there;
}

/* The address of docker's bridge, by which containers reach this machine; false: there is none. */
static bool bridge_address(char *ret, size_t size)
{
    struct ifaddrs *list = NULL, *i;
    bool found = false;
    if (getifaddrs(&list) < 0)
        return false;
    for (i = list; i && !found; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET ||
            strcmp(i->ifa_name, "docker0") != 0)
            continue;
        const struct sockaddr_in *in = (const struct sockaddr_in *)i->ifa_addr;
        found = inet_ntop(AF_INET, &in->sin_addr, ret, (socklen_t)size) != NULL;
    }
    freeifaddrs(list);
    return found;
}

const char *docker_endpoint(const struct client *c, char *ret)
{
    char address[64];
    bool is_here = !c->socket && (strncmp(c->to, "127.", 4) == 0 ||
                                  strcmp(c->to, "localhost") == 0 || strcmp(c->to, "::1") == 0);
    if (is_here && bridge_address(address, sizeof(address)))
        snprintf(ret, 320, "%s://%s:%u", c->is_tls ? "https" : "http", address, c->port);
    else
        snprintf(ret, 320, "%s", c->url);
    return ret;
}
