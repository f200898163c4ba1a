/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for libFuzzer in `make check`: feeds every file of the folder tests/fuzz/corpus/NAME
 * (argv[1]) to the target once, and the empty input.  A crash, leak or hang is the failure. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return -1;
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    uint8_t *p = malloc(n > 0 ? (size_t)n : 1);
    int ok = p && n >= 0 && fread(p, 1, (size_t)n, f) == (size_t)n;
    fclose(f);
    if (ok)
        LLVMFuzzerTestOneInput(p, (size_t)n);
    free(p);
    return ok ? 0 : -1;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
        return 2;
    }
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    int n = 0, failed = 0;
    struct dirent *e;
    DIR *d = opendir(argv[1]);
    while (d && (e = readdir(d))) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/%s", argv[1], e->d_name);
        if (e->d_name[0] == '.')
            continue;
        if (replay_file(path) < 0) {
            fprintf(stderr, "%s: cannot be read\n", path);
            failed = 1;
        }
        n++;
    }
    if (d)
        closedir(d);
    printf("replayed %d inputs\n", n);
    return failed || n == 0;
}
