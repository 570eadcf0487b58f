/* jumun cluster recover: hands over to jumund, which alone knows the directory. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/cli.h"

/* "jumund" beside this program, or the one that the shell would find. */
static void program_path(char *out, size_t bytes) {
    ssize_t size = readlink("/proc/self/exe", out, bytes - 1);
    char *slash = NULL;
    if (size > 0) {
        out[size] = 0;
        slash = strrchr(out, '/');
    }
    if (slash && (size_t)(slash + 1 - out) + sizeof "jumund" <= bytes) {
        memcpy(slash + 1, "jumund", sizeof "jumund");
        if (access(out, X_OK) == 0) return;
    }
    snprintf(out, bytes, "jumund");
}

int cli_cluster_recover(struct cli *cli) {
    char path[4096], option[] = "--recover-alone", dry[] = "--recover-alone-dry", data[] = "--data";
    char *directory = args_value(&cli->args, "data");
    const char *program = args_value(&cli->args, "program");
    if (!directory) return cli_usage(cli, "recover needs --data DIR");
    if (program) snprintf(path, sizeof path, "%s", program);
    else program_path(path, sizeof path);
    char *arguments[] = {path, args_flag(&cli->args, "force") ? option : dry, data, directory,
                         NULL};
    fflush(stdout);
    execvp(path, arguments);
    cli_error(cli, "cannot run %s: %s", path, strerror(errno));
    return CLI_NO_ANSWER;
}
