/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin's beginning: how docker calls it, its metadata, its help. */
#include "cli/docker/plugin.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/commands.h"

bool docker_is_plugin(const char *argv0)
{
    const char *slash = argv0 ? strrchr(argv0, '/') : NULL;
    return argv0 && strcmp(slash ? slash + 1 : argv0, "docker-model") == 0;
}

int docker_skip_globals(int argc, char **argv, int at)
{
    static const char *const with_value[] = {"--context", "-c",          "--host", "-H",
                                             "--config",  "--log-level", "-l",     "--tlscacert",
                                             "--tlscert", "--tlskey",    NULL};
    static const char *const alone[] = {"--debug", "-D", "--tls", "--tlsverify", NULL};
    while (at < argc) {
        const char *word = argv[at];
        size_t n = strcspn(word, "=");
        bool is_known = false, takes = false;
        for (size_t i = 0; with_value[i]; i++)
            takes |= strlen(with_value[i]) == n && strncmp(word, with_value[i], n) == 0;
        for (size_t i = 0; alone[i]; i++)
            is_known |= strlen(alone[i]) == n && strncmp(word, alone[i], n) == 0;
        if (!is_known && !takes)
            break;
        at += takes && !word[n] && at + 1 < argc ? 2 : 1;
    }
    return at;
}

static int print_metadata(void)
{
    puts("{\"SchemaVersion\":\"0.1.0\",\"Vendor\":\"berth\",\"Version\":\"" DOCKER_PLUGIN_VERSION
         "\",\"ShortDescription\":\"Docker Model Runner (berth " BERTH_VERSION ")\"}");
    return CLI_OK;
}

/* --- docker tells by a socket that it closes that the user wants an end --- */

static void *watch_socket(void *ctx)
{
    int fd = (int)(intptr_t)ctx;
    char byte;
    while (read(fd, &byte, 1) > 0)
        ;
    kill(getpid(), SIGINT);
    return NULL;
}

static void heed_docker(void)
{
    const char *path = config_docker_socket();
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    if (n == 0 || n >= sizeof(un.sun_path))
        return;
    memcpy(un.sun_path, path, n);
    if (un.sun_path[0] == '@')
        un.sun_path[0] = '\0'; /* of Linux's abstract namespace */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pthread_t thread;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&un, size) == 0 &&
        pthread_create(&thread, NULL, watch_socket, (void *)(intptr_t)fd) == 0)
        pthread_detach(thread);
    else if (fd >= 0)
        close(fd);
}

/* --- help --- */

void docker_help(const struct docker_command *c)
{
    if (!c) {
        size_t n;
        const struct docker_command *all = docker_commands(&n);
        fputs("Usage:  docker model COMMAND\n\nRun AI models: berth as docker's "
              "plugin\n\nCommands:\n",
              stdout);
        for (size_t i = 0; i < n; i++) {
            if (all[i].summary)
                printf("  %-12s%s\n", all[i].name, all[i].summary);
        }
        puts("\nRun 'docker model COMMAND --help' for more information on a command.");
        return;
    }
    docker_put_usage(stdout, c);
    printf("\n\n%s\n", c->summary ? c->summary : c->name);
    if (c->alias)
        printf("\nAliases:\n  docker model %s, docker model %s\n", c->name, c->alias);
    if (c->flags->name)
        puts("\nOptions:");
    for (const struct cli_flag *f = c->flags; f->name; f++) {
        char left[64], letter[8] = "   ";
        if (f->how & CLI_HIDDEN)
            continue;
        if (f->letter)
            snprintf(letter, sizeof(letter), "-%c,", f->letter);
        snprintf(left, sizeof(left), "%s --%s%s%s", letter, f->name, f->arg ? " " : "",
                 f->arg ? f->arg : "");
        printf("  %-30s %s\n", left, f->help);
    }
}

/* --- */

static int dispatch(int argc, char **argv)
{
    int n_words = 0, status = CLI_FAILED;
    if (argc == 0 || strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
        docker_help(NULL);
        return CLI_OK;
    }
    if (strcmp(argv[0], "help") == 0) {
        const struct docker_command *of = docker_find(argc - 1, argv + 1, &n_words);
        docker_help(of);
        return CLI_OK;
    }
    const struct docker_command *c = docker_find(argc, argv, &n_words);
    if (!c) {
        fprintf(stderr,
                "docker: unknown command: docker model %s\n\nRun 'docker model --help' for more "
                "information\n",
                argv[0]);
        return CLI_FAILED;
    }
    struct cli_args args;
    if (docker_parse(c, argc - n_words, argv + n_words, &args, &status))
        status = c->run(&args);
    cli_args_release(&args);
    return status;
}

int docker_main(int argc, char **argv)
{
    cli_begin();
    cli_speak_as("");
    int at = 1;
    if (argc > 1 && strcmp(argv[1], "docker-cli-plugin-metadata") == 0)
        return cli_end(print_metadata());
    bool completes = argc > 1 && strncmp(argv[1], "__complete", 10) == 0;
    bool describes = completes && strcmp(argv[1], "__complete") == 0;
    at = docker_skip_globals(argc, argv, at + completes);
    if (at < argc && strcmp(argv[at], "model") == 0)
        at++;
    at = completes ? at : docker_skip_globals(argc, argv, at);
    if (completes)
        return cli_end(docker_complete(argc - at, argv + at, describes));
    heed_docker();
    int status = dispatch(argc - at, argv + at);
    return cli_end(status == CLI_USAGE ? CLI_FAILED : status);
}
