package deploy

import (
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"culvert/config"
)

// rootfs lays out the file system of an image as the Dockerfile does.
func rootfs(t *testing.T, capabilities string) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("run this as root: it gives files to other users")
	}
	need(t, "setcap", "libcap2-bin")
	program := culvert(t)
	dir, err := os.MkdirTemp("", "rootfs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	output(t, exec.Command("sh", "container/rootfs.sh", program, dir, capabilities))
	return dir
}

// TestImage: the program is static and of this capability alone, the rest is
// what a user without rights needs, and the Dockerfile makes just that.
func TestImage(t *testing.T) {
	file := read(t, "container/Dockerfile")
	for name, capabilities := range map[string]string{"/rootfs": "cap_net_admin+ep", "/rootfs-unprivileged": ""} {
		if want := "rootfs.sh /out/culvert " + name + ` "` + capabilities + `"`; !strings.Contains(file, want) {
			t.Errorf("the Dockerfile has no %s", want)
		}
		dir := rootfs(t, capabilities)
		exe, err := elf.Open(filepath.Join(dir, "culvert"))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range exe.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				t.Errorf("%s: the program is not static", name)
			}
		}
		_ = exe.Close()
		if got := output(t, exec.Command(need(t, "getcap", "libcap2-bin"), filepath.Join(dir, "culvert"))); strings.Contains(got, "cap_") != (capabilities != "") ||
			capabilities != "" && !strings.HasSuffix(strings.TrimSpace(got), "culvert cap_net_admin=ep") {
			t.Errorf("%s: capabilities %q", name, got)
		}
		for _, own := range []string{"run/culvert", "var/lib/culvert"} {
			info, err := os.Stat(filepath.Join(dir, own))
			if err != nil {
				t.Fatal(err)
			}
			if s := info.Sys().(*syscall.Stat_t); s.Uid != 65532 || s.Gid != 65532 || info.Mode().Perm() != 0o700 {
				t.Errorf("%s: %s is %v of %d:%d", name, own, info.Mode(), s.Uid, s.Gid)
			}
		}
	}
	if users := regexp.MustCompile(`(?m)^USER (.*)$`).FindAllStringSubmatch(file, -1); len(users) != 2 || users[0][1] != "65532:65532" || users[1][1] != "65532:65532" {
		t.Errorf("users %v", users)
	}
}

// documents are those of a YAML file.
func documents(t *testing.T, name string) (all []map[string]any) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(read(t, name)))
	for {
		var v map[string]any
		err := d.Decode(&v)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, v)
	}
}

// at follows keys, and indices of lists, into a document.
func at(t *testing.T, v any, keys ...any) any {
	t.Helper()
	for _, key := range keys {
		switch k := key.(type) {
		case string:
			m, _ := v.(map[string]any)
			if v = m[k]; v == nil {
				t.Fatalf("there is no %v", keys)
			}
		case int:
			list, _ := v.([]any)
			if k >= len(list) {
				t.Fatalf("there is no %v", keys)
			}
			v = list[k]
		}
	}
	return v
}

func wantList(t *testing.T, what string, v any, want ...string) {
	t.Helper()
	list, _ := v.([]any)
	var got []string
	for _, x := range list {
		s, _ := x.(string)
		got = append(got, s)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func TestCompose(t *testing.T) {
	service := at(t, documents(t, "container/compose.yaml")[0], "services", "culvert")
	wantList(t, "cap_drop", at(t, service, "cap_drop"), "ALL")
	wantList(t, "cap_add", at(t, service, "cap_add"), "NET_ADMIN")
	wantList(t, "healthcheck", at(t, service, "healthcheck", "test"), "CMD", "/culvert", "status", "--socket", "/run/culvert/culvert.sock")
	for key, want := range map[string]any{"user": "65532:65532", "read_only": true} {
		if got := at(t, service, key); got != want {
			t.Errorf("%s is %v", key, got)
		}
	}
	if _, err := os.Stat(filepath.Join("container", at(t, service, "build", "context").(string), at(t, service, "build", "dockerfile").(string))); err != nil {
		t.Error(err)
	}
}

// TestKubernetes: NET_ADMIN alone, no root, probes of the API, keys and a
// configuration that kustomize makes of files, and that culvert takes.
func TestKubernetes(t *testing.T) {
	deployment := documents(t, "kubernetes/deployment.yaml")[0]
	pod := at(t, deployment, "spec", "template", "spec")
	c := at(t, pod, "containers", 0)
	wantList(t, "added", at(t, c, "securityContext", "capabilities", "add"), "NET_ADMIN")
	wantList(t, "dropped", at(t, c, "securityContext", "capabilities", "drop"), "ALL")
	if at(t, pod, "securityContext", "runAsNonRoot") != true || at(t, pod, "securityContext", "runAsUser") != 65532 || at(t, c, "securityContext", "readOnlyRootFilesystem") != true {
		t.Error("it has rights that it does not need")
	}
	for _, probe := range []string{"readinessProbe", "livenessProbe"} {
		wantList(t, probe, at(t, c, probe, "exec", "command"), "/culvert", "status", "--socket", "/run/culvert/culvert.sock")
	}
	k := documents(t, "kubernetes/kustomization.yaml")[0]
	wantList(t, "resources", at(t, k, "resources"), "deployment.yaml")
	wantList(t, "configuration", at(t, k, "configMapGenerator", 0, "files"), "site.toml")
	if at(t, c, "envFrom", 0, "secretRef", "name") != at(t, k, "secretGenerator", 0, "name") {
		t.Error("its keys are not of the Secret")
	}
	if at(t, pod, "volumes", 0, "configMap", "name") != at(t, k, "configMapGenerator", 0, "name") {
		t.Error("its configuration is not of the ConfigMap")
	}
	t.Setenv("CULVERT_OFFICE", "u7Zk2p0vQmJ4xW9sTn1cYb6H")
	cfg, err := config.Load("kubernetes/site.toml")
	if err != nil || len(cfg.Warnings) > 0 {
		t.Errorf("%v %v", err, cfg)
	}
	keys := at(t, k, "secretGenerator", 0, "envs").([]any)[0].(string)
	if !strings.Contains(read(t, "../.gitignore"), "/deploy/kubernetes/"+keys+"\n") {
		t.Errorf("git would take %s", keys)
	}
}
