use super::ComponentChange::{Added, Major, Minor, Patch, Removed};
use super::*;

fn read(path: &str, text: &str) -> Vec<String> {
    let mut found = Components::default();
    Format::of(path.as_bytes()).expect("a manifest").read(text, &mut found);
    let line = |(name, versions): (&String, &BTreeSet<String>)| {
        format!("{name} {}", versions.iter().cloned().collect::<Vec<_>>().join("|"))
    };
    found.0.iter().map(line).collect()
}

#[test]
fn every_ecosystem_is_read() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "Cargo.toml",
            "[package]\nname=\"own\"\nversion=\"9\"\n[dependencies]\na = \"1.2\"\nb = { version = \"2\", features=[] }\nc = { path = \"../c\" }\nd = { git = \"u\", tag = \"v3\" }\ne = { workspace = true }\n[target.'cfg(unix)'.dependencies]\nlibc = \"0.2\"\n[workspace.dependencies]\nf = { package = \"g\", version = \"4\" }",
            &["a 1.2", "b 2", "d v3", "e ", "g 4", "libc 0.2"],
        ),
        (
            "Cargo.lock",
            "version = 4\n[[package]]\nname=\"own\"\nversion=\"1\"\n[[package]]\nname=\"a\"\nversion=\"1.0\"\nsource=\"r\"\n[[package]]\nname=\"a\"\nversion=\"2.0\"\nsource=\"r\"",
            &["a 1.0|2.0"],
        ),
        (
            "poetry.lock",
            "[[package]]\nname=\"requests\"\nversion=\"2.31.0\"\n[metadata]\nlock-version=\"2.0\"",
            &["requests 2.31.0"],
        ),
        (
            "uv.lock",
            "version = 1\nrequires-python = \">=3\"\n[[package]]\nname=\"own\"\nversion=\"1\"\nsource={ editable = \".\" }\n[[package]]\nname=\"httpx\"\nversion=\"0.27\"\nsource={ registry = \"u\" }",
            &["httpx 0.27"],
        ),
        (
            "pyproject.toml",
            "[project]\ndependencies=[\"Foo_Bar[x]>=1.2,<2; python_version<'4'\"]\n[project.optional-dependencies]\ndev=[\"pytest\"]\n[tool.poetry.dependencies]\npython=\"^3\"\nhttpx={version=\"^0.27\"}\n[tool.poetry.group.dev.dependencies]\nruff=\"1\"",
            &["foo-bar >=1.2,<2", "httpx ^0.27", "pytest ", "ruff 1"],
        ),
        (
            "Pipfile",
            "[packages]\nflask = \"*\"\n[dev-packages]\nblack = {version = \"==1\"}",
            &["black ==1", "flask *"],
        ),
        (
            "gradle/libs.versions.toml",
            "[versions]\nktor=\"2.3\"\n[libraries]\ncore={module=\"io.ktor:core\",version.ref=\"ktor\"}\nshort=\"a:b:1\"\nsplit={group=\"g\",name=\"n\",version=\"3\"}\n[plugins]\nkt={id=\"k\",version=\"2\"}",
            &["a:b 1", "g:n 3", "io.ktor:core 2.3", "k 2"],
        ),
        (
            "web/package.json",
            "{\"version\":\"9\",\"dependencies\":{\"@a/b\":\"^1.2\",\"own\":\"file:../own\"},\"devDependencies\":{\"jest\":\"29\"}}",
            &["@a/b ^1.2", "jest 29"],
        ),
        (
            "package-lock.json",
            "{\"packages\":{\"\":{\"version\":\"9\"},\"node_modules/a\":{\"version\":\"1.0.0\"},\"node_modules/a/node_modules/@s/b\":{\"version\":\"2.0.0\"}}}",
            &["@s/b 2.0.0", "a 1.0.0"],
        ),
        (
            "npm-shrinkwrap.json",
            "{\"dependencies\":{\"a\":{\"version\":\"1\",\"dependencies\":{\"b\":{\"version\":\"2\"}}}}}",
            &["a 1", "b 2"],
        ),
        (
            // Not as npm writes them.
            "package-lock.json",
            "{\"packages\":{\"node_modules/a\":{\"version\":1},\"node_modules/b\":7,\"node_modules/c\":{\"version\":\"3\"}}}",
            &["c 3"],
        ),
        (
            "package-lock.json",
            "{\"packages\":null,\"dependencies\":{\"a\":{\"version\":true},\"b\":{\"version\":\"2\",\"dependencies\":[]}}}",
            &["b 2"],
        ),
        (
            "packages.lock.json",
            "{\"version\":1,\"dependencies\":{\"net8.0\":{\"Serilog\":{\"resolved\":\"3.1\"},\"Own\":{\"type\":\"Project\"}}}}",
            &["serilog 3.1"],
        ),
        (
            "Package.resolved",
            "{\"pins\":[{\"identity\":\"swift-nio\",\"state\":{\"version\":\"2.1.0\"}}]}",
            &["swift-nio 2.1.0"],
        ),
        (
            "Package.resolved",
            "{\"object\":{\"pins\":[{\"package\":\"NIO\",\"state\":{\"revision\":\"ab\",\"version\":null}}]}}",
            &["nio ab"],
        ),
        ("Pipfile.lock", "{\"default\":{\"flask\":{\"version\":\"==3\"}},\"develop\":{}}", &["flask ==3"]),
        (
            "yarn.lock",
            "# yarn lockfile v1\n\n\"@babel/core@^7.0.0\", \"@babel/core@^7.1\":\n  version \"7.2.0\"\n  resolved \"u\"\n\na@1:\n  version \"1.5.0\"\n",
            &["@babel/core 7.2.0", "a 1.5.0"],
        ),
        (
            "yarn.lock",
            "__metadata:\n  version: 8\n\n\"own@workspace:.\":\n  version: 0.0.0\n\n\"a@npm:^1\":\n  version: 1.2.3\n",
            &["a 1.2.3"],
        ),
        (
            "pnpm-lock.yaml",
            "lockfileVersion: '9.0'\nimporters:\n  .:\n    x: 1\npackages:\n  '@a/b@1.0.0':\n    resolution: {}\n  c@2.0.0(react@18.0.0):\n    x: y\n  /d/3.0.0:\n    x: y\nsnapshots:\n  e@1.0.0: {}\n",
            &["@a/b 1.0.0", "c 2.0.0", "d 3.0.0"],
        ),
        (
            "go.mod",
            "module own\n\ngo 1.22\n\nrequire a/b v1.2.3\nrequire (\n\tc/d v0.1.0 // indirect\n)\nreplace a/b => e/f v9.0.0\n",
            &["a/b v1.2.3|v9.0.0 e/f", "c/d v0.1.0"],
        ),
        (
            "requirements/base.txt",
            "# c\n-r other.txt\nDjango==4.2.1  # lts\nrequests[socks]>=2 ; python_version>'3'\nurllib3==2.0 --hash=sha256:ab\n",
            &["django ==4.2.1", "requests >=2", "urllib3 ==2.0"],
        ),
        (
            "ios/Podfile",
            "target 'App' do\n  pod 'Alamofire', '~> 5.4'\n  pod \"Own\"\nend",
            &["Alamofire ~> 5.4", "Own "],
        ),
        (
            "Podfile.lock",
            "PODS:\n  - Alamofire (5.4.0)\n  - Firebase/Core (9.0):\n    - Firebase/Base\n\nDEPENDENCIES:\n  - Alamofire (~> 5.4)\n",
            &["Alamofire 5.4.0", "Firebase/Core 9.0"],
        ),
        (
            "Package.swift",
            "let package = Package(dependencies: [\n .package(url: \"https://x/Y/Swift-NIO.git\", from: \"2.0.0\"),\n .package(path: \"../own\"),\n .package(name: \"z\", url: \"https://x/z\", .upToNextMajor(from: \"1.5.0\"))])",
            &["swift-nio 2.0.0", "z 1.5.0"],
        ),
        (
            "app/build.gradle",
            "ext.ktor = '2.3'\nplugins { \n id 'org.jetbrains' version '1.9'\n}\ndependencies {\n implementation \"io.ktor:core:$ktor\"\n api group: 'g', name: 'n', version: '1'\n implementation 'com.acme:managed'\n implementation project(':own')\n}",
            &["com.acme:managed ", "g:n 1", "io.ktor:core 2.3", "org.jetbrains 1.9"],
        ),
        ("build.gradle.kts", "dependencies { implementation(\"a.b:c:1.0\") }", &["a.b:c 1.0"]),
        ("Gemfile", "source 'u'\ngem \"rails\", \"~> 7.1\"\ngem 'pg'\n", &["pg ", "rails ~> 7.1"]),
        (
            "Gemfile.lock",
            "GEM\n  remote: u\n  specs:\n    rails (7.1.2)\n      rack (>= 2)\n    rack (3.0)\n",
            &["rack 3.0", "rails 7.1.2"],
        ),
        ("composer.json", "{\"require\":{\"php\":\"8\",\"a/b\":\"^1\"}}", &["a/b ^1"]),
        ("composer.lock", "{\"packages\":[{\"name\":\"a/b\",\"version\":\"1.2\"}]}", &["a/b 1.2"]),
        ("gradle.lockfile", "# c\na.b:c:1.0=compile\nempty=\n", &["a.b:c 1.0"]),
        (
            "CMakeLists.txt",
            "FetchContent_Declare(\n  json # c\n  GIT_REPOSITORY https://x/json\n  GIT_TAG v3.11.2)\nfind_package(OpenSSL 3.0 REQUIRED)\nCPMAddPackage(\"gh:fmtlib/fmt@10.1\")\nCPMAddPackage(NAME spd VERSION 1.2)",
            &["fmt 10.1", "json v3.11.2", "openssl 3.0", "spd 1.2"],
        ),
        (
            "docker/Dockerfile.prod",
            "FROM --platform=linux/amd64 reg:5000/node:18.1-alpine AS build\nFROM build AS test\nFROM nginx@sha256:ab\nfrom scratch",
            &["nginx sha256:ab", "reg:5000/node 18.1-alpine"],
        ),
        (
            "pom.xml",
            "<project xmlns=\"u\"><parent><groupId>org.boot</groupId><artifactId>p</artifactId><version>3.1</version></parent><groupId>own</groupId><version>9</version><properties><jwt.v>0.12</jwt.v></properties><dependencies><dependency><groupId>io.jwt</groupId><artifactId>jwt</artifactId><version>${jwt.v}</version></dependency><dependency><groupId>own</groupId><artifactId>api</artifactId><version>${project.version}</version></dependency></dependencies></project>",
            &["io.jwt:jwt 0.12", "org.boot:p 3.1", "own:api ${project.version}"],
        ),
        (
            "api/pom.xml",
            "<project><parent><groupId>own</groupId><artifactId>p</artifactId><version>9</version></parent></project>",
            &[],
        ),
        (
            "A.csproj",
            "<Project><PropertyGroup><V>8.0</V></PropertyGroup><ItemGroup><PackageReference Include=\"Serilog\" Version=\"$(V)\" /><PackageReference Include=\"B\"><Version>2</Version></PackageReference></ItemGroup></Project>",
            &["b 2", "serilog 8.0"],
        ),
        ("packages.config", "<packages><package id=\"A\" version=\"1.0\" /></packages>", &["a 1.0"]),
        (
            "Directory.Packages.props",
            "<Project><ItemGroup><PackageVersion Include=\"A\" Version=\"1.0\" /></ItemGroup></Project>",
            &["a 1.0"],
        ),
    ];
    for (path, text, expected) in cases {
        assert_eq!(read(path, text), *expected, "{path}");
    }
}

#[test]
fn a_change_has_a_size() {
    let manifest = |path: &str, old: &str, new: &str| {
        let sides = [old, new].map(|text| (!text.is_empty()).then_some(text.as_bytes()));
        Manifest::new(path.as_bytes(), sides[0], sides[1]).expect("a manifest").changes().to_vec()
    };
    let npm = |text: &str| format!("{{\"dependencies\":{{{text}}}}}");
    let old = npm(
        "\"gone\":\"1\",\"major\":\"^1.9.0\",\"minor\":\"~1.1.0\",\"patch\":\"1.1.1\",\"same\":\"1\",\"branch\":\"main\"",
    );
    let new = npm(
        "\"come\":\"1\",\"major\":\"^2.0.0\",\"minor\":\"1.2\",\"patch\":\"1.1.2-rc1\",\"same\":\"1\",\"branch\":\"next\"",
    );
    let expected = [
        ("branch", Major),
        ("come", Added),
        ("gone", Removed),
        ("major", Major),
        ("minor", Minor),
        ("patch", Patch),
    ];
    let expected: Vec<(String, ComponentChange)> =
        expected.iter().map(|(name, change)| ((*name).to_owned(), *change)).collect();
    assert_eq!(manifest("package.json", &old, &new), expected);
    assert_eq!(manifest("package.json", "", &npm("\"a\":\"1\"")), [("a".to_owned(), Added)]);
    assert_eq!(manifest("package.json", &npm("\"a\":\"1\""), ""), [("a".to_owned(), Removed)]);
    let release =
        |version: &str| format!("<project><groupId>own</groupId><version>{version}</version></project>");
    assert_eq!(manifest("pom.xml", &release("1.0"), &release("1.1")), []);
}

#[test]
fn bad_input_has_no_components_and_no_panic() {
    let deep_xml = "<a>".repeat(50_000);
    let deep_json = "{\"dependencies\":".repeat(50_000);
    let deep_toml = format!("a = {}", "[".repeat(50_000));
    let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbbbbbb\">]><a>&b;&b;</a>";
    let texts = [
        "",
        "\u{0}",
        "{",
        "<",
        "[[package]]",
        "((((",
        "'",
        "\"@",
        "require (",
        "\u{fffd}:",
        bomb,
        &deep_xml,
        &deep_json,
        &deep_toml,
    ];
    for path in [
        "Cargo.toml",
        "Cargo.lock",
        "pyproject.toml",
        "Pipfile",
        "libs.versions.toml",
        "package.json",
        "package-lock.json",
        "packages.lock.json",
        "Package.resolved",
        "Pipfile.lock",
        "yarn.lock",
        "pnpm-lock.yaml",
        "go.mod",
        "requirements.txt",
        "Podfile",
        "Podfile.lock",
        "Gemfile",
        "Gemfile.lock",
        "composer.json",
        "composer.lock",
        "Package.swift",
        "build.gradle",
        "gradle.lockfile",
        "CMakeLists.txt",
        "Dockerfile",
        "pom.xml",
        "a.csproj",
    ] {
        for text in texts {
            let found = read(path, text);
            assert!(found.len() <= 2, "{path} of {:?}: {found:?}", &text[..text.len().min(9)]);
        }
    }
    let invalid = Manifest::new(b"go.mod", None, Some(b"require a v1\n\xff")).expect("a manifest");
    assert!(invalid.changes().is_empty());
    assert!(!Manifest::is_one(b"src/main.rs"));
}
