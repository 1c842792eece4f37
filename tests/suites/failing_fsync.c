/* For LD_PRELOAD: a disk that cannot write one directory, $FAILING_DIRECTORY, and everything else well. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

int fsync(int fd) {
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    const char *path = getenv("FAILING_DIRECTORY");
    struct stat is, failing;
    if (path && !fstat(fd, &is) && !stat(path, &failing) && is.st_dev == failing.st_dev && is.st_ino == failing.st_ino) {
        errno = EIO;
        return -1;
    }
    return next(fd);
}
