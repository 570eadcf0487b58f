/* backup: the work is jumun-replay's, which reads the directory beside the running node. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/cli.h"

enum { BACKUP_WORDS_MAX = 10, BACKUP_PATH_BYTES = 1024 };

/* Beside this program: where it is installed, and where it is built. */
static void backup_exec(const char *const *words) {
    static const char *const places[] = {"jumun-replay", "../replay/jumun-replay"};
    char self[BACKUP_PATH_BYTES], path[BACKUP_PATH_BYTES + 32];
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    if (size > 0) {
        self[size] = 0;
        char *slash = strrchr(self, '/');
        if (slash) slash[1] = 0;
        for (size_t i = 0; slash && i < sizeof places / sizeof *places; i++) {
            snprintf(path, sizeof path, "%s%s", self, places[i]);
            execv(path, (char *const *)(uintptr_t)words);
        }
    }
    execvp("jumun-replay", (char *const *)(uintptr_t)words);
}

int cli_backup(struct cli *cli) {
    const char *words[BACKUP_WORDS_MAX] = {"jumun-replay", "backup"};
    int count = 2;
    words[count++] = cli_word(cli, 0);
    words[count++] = cli_word(cli, 1);
    if (cli->json) words[count++] = "--json";
    if (cli->quiet) words[count++] = "--quiet";
    if (args_flag(&cli->args, "base")) words[count++] = "--base";
    const char *node = args_value(&cli->args, "node");
    if (node) {
        words[count++] = "--node";
        words[count++] = node;
    }
    words[count] = NULL;
    fflush(stdout);
    backup_exec(words);
    cli_error(cli, "jumun-replay cannot be started: %s", strerror(errno));
    return CLI_NO_ANSWER;
}
